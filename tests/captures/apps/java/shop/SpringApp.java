// Spring MVC as Spring Boot sets it up, on its own Tomcat.
package shop;

import java.io.IOException;
import java.util.Map;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.EnableAutoConfiguration;
import org.springframework.boot.web.embedded.tomcat.TomcatServletWebServerFactory;
import org.springframework.boot.web.server.WebServerFactoryCustomizer;
import org.springframework.boot.web.servlet.context.ServletWebServerApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.context.annotation.Import;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PostMapping;
import org.springframework.web.bind.annotation.RequestBody;
import org.springframework.web.bind.annotation.RequestHeader;
import org.springframework.web.bind.annotation.RequestMapping;
import org.springframework.web.bind.annotation.RequestMethod;
import org.springframework.web.bind.annotation.RestController;

@Configuration(proxyBeanMethods = false)
@EnableAutoConfiguration
@Import(SpringApp.Shop.class)
public class SpringApp {
  @RestController
  static class Shop {
    @GetMapping({"/by/header", "/by/header/"})
    ResponseEntity<Void> header() {
      return status(200);
    }

    @RequestMapping(path = "/by/header", method = RequestMethod.OPTIONS)
    ResponseEntity<Void> preflight() {
      return status(204);
    }

    @GetMapping({
      "/by/key", "/by/bearer", "/by/query", "/by/any", "/by/redacted", "/by/basic", "/by/cookie", "/by/baggage",
      "/by/transform", "/by/template/{project}", "/healthz", "/mounted/items"
    })
    ResponseEntity<Void> plain() {
      return status(200);
    }

    @GetMapping("/by/jwt")
    ResponseEntity<Void> jwt(@RequestHeader(name = "authorization", required = false) String authorization) {
      return status(Answers.jwt(authorization));
    }

    @GetMapping({"/orgs/{org}/items", "/orgs/{org}/items/", "/organisations/{org}/items"})
    ResponseEntity<Void> items(@PathVariable("org") String organisation) {
      return status(Answers.items(organisation));
    }

    @PostMapping("/by/body")
    ResponseEntity<Void> body(@RequestBody byte[] body) throws IOException {
      return status(Answers.create(body));
    }

    @PostMapping("/by/metadata")
    ResponseEntity<Void> metadata(@RequestHeader(name = "x-session", required = false) String session) {
      return status(Answers.session(session));
    }

    @PostMapping("/chat/completions")
    ResponseEntity<Void> chat(@RequestBody byte[] body) throws IOException {
      return status(Answers.complete(body));
    }

    @GetMapping("/lookup/{name}")
    ResponseEntity<Void> lookup(@PathVariable("name") String name) {
      return status(Answers.lookup(name));
    }

    @GetMapping("/fail")
    ResponseEntity<Void> fail() {
      return status(500);
    }

    private static ResponseEntity<Void> status(int code) {
      return ResponseEntity.status(code).build();
    }
  }

  @Bean
  ServerSpan.Redaction redaction() {
    return new ServerSpan.Redaction();
  }

  @Bean
  WebServerFactoryCustomizer<TomcatServletWebServerFactory> encodedSlashes() {
    // Or else a %2F in the path is answered with 400.
    return factory ->
        factory.addConnectorCustomizers(connector -> connector.setEncodedSolidusHandling("passthrough"));
  }

  public static void main(String[] arguments) {
    SpringApplication application = new SpringApplication(SpringApp.class);
    application.setDefaultProperties(
        Map.of(
            "server.address", "127.0.0.1",
            "server.port", "0",
            "spring.main.banner-mode", "off",
            "logging.level.root", "OFF"));
    var context = (ServletWebServerApplicationContext) application.run(arguments);
    System.out.println(context.getWebServer().getPort());
  }
}
