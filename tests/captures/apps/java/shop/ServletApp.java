// Servlets on Tomcat, without a framework, with a second application mounted below /mounted.
package shop;

import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.file.Files;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;
import org.apache.tomcat.util.descriptor.web.FilterDef;
import org.apache.tomcat.util.descriptor.web.FilterMap;

public final class ServletApp {
  private ServletApp() {}

  interface Answer {
    int to(HttpServletRequest request) throws IOException;
  }

  private static final class Page extends HttpServlet {
    private static final long serialVersionUID = 1;
    private final transient Answer answer;

    Page(Answer answer) {
      this.answer = answer;
    }

    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
      response.setStatus(answer.to(request));
    }
  }

  /** One segment of the path as it was sent. */
  private static String segment(HttpServletRequest request, int index) {
    return request.getRequestURI().split("/")[index];
  }

  private static void serve(Context context, String mapping, Answer answer) {
    Tomcat.addServlet(context, mapping, new Page(answer));
    context.addServletMappingDecoded(mapping, mapping);
  }

  private static void redact(Context context) {
    FilterDef filter = new FilterDef();
    filter.setFilterName("redaction");
    filter.setFilter(new ServerSpan.Redaction());
    context.addFilterDef(filter);
    FilterMap everywhere = new FilterMap();
    everywhere.setFilterName("redaction");
    everywhere.addURLPattern("/*");
    context.addFilterMap(everywhere);
  }

  public static void main(String[] arguments) throws Exception {
    String folder = Files.createTempDirectory("shop").toString();
    Tomcat tomcat = new Tomcat();
    tomcat.setBaseDir(folder);
    tomcat.setSilent(true);
    Connector connector = new Connector();
    connector.setPort(0);
    connector.setProperty("address", "127.0.0.1");
    connector.setEncodedSolidusHandling("passthrough"); // or else a %2F in the path is answered with 400
    tomcat.setConnector(connector);

    Context shop = tomcat.addContext("", folder);
    redact(shop);
    serve(shop, "/by/header", request -> request.getMethod().equals("OPTIONS") ? 204 : 200);
    serve(shop, "/by/header/", request -> 200);
    for (String path : Answers.PLAIN) {
      serve(shop, path, request -> 200);
    }
    serve(shop, "/by/jwt", request -> Answers.jwt(request.getHeader("authorization")));
    serve(shop, "/orgs/*", request -> Answers.items(segment(request, 2)));
    serve(shop, "/organisations/*", request -> Answers.items(segment(request, 2)));
    serve(shop, "/by/body", request -> Answers.create(request.getInputStream().readAllBytes()));
    serve(shop, "/by/metadata", request -> Answers.session(request.getHeader("x-session")));
    serve(shop, "/chat/completions", request -> Answers.complete(request.getInputStream().readAllBytes()));
    serve(shop, "/lookup/*", request -> Answers.lookup(segment(request, 2)));
    serve(shop, "/fail", request -> 500);
    serve(shop, "/healthz", request -> 200);
    Context mounted = tomcat.addContext("/mounted", folder);
    serve(mounted, "/items", request -> 200);

    tomcat.start();
    System.out.println(connector.getLocalPort());
    tomcat.getServer().await();
  }
}
