// The SERVER span, which need not be the current one; and a filter, because the agent cannot redact a header.
package shop;

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.instrumentation.api.instrumenter.LocalRootSpan;
import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import java.io.IOException;
import java.util.List;

final class ServerSpan {
  private static final String[] SANITIZED = System.getenv("CAPTURES_SANITIZED_HEADERS").split(",");

  private ServerSpan() {}

  static Span get() {
    return LocalRootSpan.current();
  }

  /** Puts [REDACTED] in the place of what the agent has captured, under the old name and the new. */
  static final class Redaction implements Filter {
    @Override
    public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
        throws IOException, ServletException {
      for (String name : SANITIZED) {
        if (((HttpServletRequest) request).getHeader(name) != null) {
          for (String key : List.of(name, name.replace('-', '_'))) {
            get().setAttribute(AttributeKey.stringArrayKey("http.request.header." + key), List.of("[REDACTED]"));
          }
        }
      }
      chain.doFilter(request, response);
    }
  }
}
