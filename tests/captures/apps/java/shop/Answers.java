// What the API does, the same in every framework: status codes, and attributes on the SERVER span.
package shop;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

final class Answers {
  /** What below /by/ is answered with 200 and nothing else. */
  static final String[] PLAIN = {
    "/by/key", "/by/bearer", "/by/query", "/by/any", "/by/redacted", "/by/basic", "/by/cookie", "/by/baggage",
    "/by/transform", "/by/template/p1"
  };

  private static final ObjectMapper JSON = new ObjectMapper();

  private Answers() {}

  static int jwt(String authorization) {
    return authorization == null ? 401 : 200;
  }

  static int items(String organisation) {
    return organisation.equals("ghost") ? 404 : 200;
  }

  static int lookup(String name) {
    return name.equals("nothing") ? 404 : 200;
  }

  /** The body of the request, as text, is also put onto the SERVER span. */
  static int create(byte[] body) throws IOException {
    ServerSpan.get().setAttribute("http.request.body.content", new String(body, StandardCharsets.UTF_8));
    try {
      JSON.readTree(body);
    } catch (JsonProcessingException e) {
      return 400;
    }
    return 201;
  }

  /** The handler knows the user from its session, and says so on the span. */
  static int session(String name) {
    if (name != null) {
      ServerSpan.get().setAttribute("enduser.id", name.replaceFirst("^session-of-", ""));
    }
    return 200;
  }

  /** A chat completion that says on the span how many tokens it used. */
  static int complete(byte[] body) throws IOException {
    JsonNode tokens = JSON.readTree(body).path("tokens");
    if (tokens.isTextual()) {
      ServerSpan.get().setAttribute("app.tokens", tokens.textValue());
    } else if (tokens.isIntegralNumber()) {
      ServerSpan.get().setAttribute("app.tokens", tokens.longValue());
    } else if (tokens.isNumber()) {
      ServerSpan.get().setAttribute("app.tokens", tokens.doubleValue());
    }
    return 200;
  }
}
