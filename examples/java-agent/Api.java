// A small API on the JDK's own server. The agent makes the SERVER spans; the handler says what a request took.

import com.sun.net.httpserver.HttpServer;
import io.opentelemetry.instrumentation.api.instrumenter.LocalRootSpan;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;

public final class Api {
  public static void main(String[] arguments) throws IOException {
    InetSocketAddress address = new InetSocketAddress("127.0.0.1", Integer.parseInt(arguments[0]));
    HttpServer server = HttpServer.create(address, 0);
    server.createContext(
        "/healthz",
        exchange -> {
          exchange.sendResponseHeaders(200, -1);
          exchange.close();
        });
    server.createContext(
        "/v1/chat/completions",
        exchange -> {
          // Not Span.current(), which may be a span of a framework or of your own below the SERVER span.
          LocalRootSpan.current().setAttribute("app.tokens", 42);
          byte[] answer = "{\"answer\":\"42\"}\n".getBytes(StandardCharsets.UTF_8);
          exchange.sendResponseHeaders(200, answer.length);
          exchange.getResponseBody().write(answer);
          exchange.close();
        });
    server.start();
  }
}
