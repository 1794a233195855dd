// Sends SERVER spans with the exporter of the OpenTelemetry SDK for Java, one batch after the other.
//
// java Send PROTOCOL ENDPOINT BATCHES SPANS USER; PROTOCOL is grpc or http. Prints "taken N" or "lost N" for each batch.

import io.opentelemetry.api.common.AttributeKey;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.trace.ReadableSpan;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;

public final class Send {
  public static void main(String[] arguments) {
    SpanExporter exporter =
        arguments[0].equals("grpc")
            ? OtlpGrpcSpanExporter.builder().setEndpoint(arguments[1]).setCompression("gzip").build()
            : OtlpHttpSpanExporter.builder().setEndpoint(arguments[1]).build();
    var tracer = SdkTracerProvider.builder().build().get("interop");
    for (int batch = 0; batch < Integer.parseInt(arguments[2]); batch++) {
      List<SpanData> spans = new ArrayList<>();
      for (int number = 0; number < Integer.parseInt(arguments[3]); number++) {
        var span =
            tracer
                .spanBuilder("POST /v1/chat")
                .setNoParent()
                .setSpanKind(SpanKind.SERVER)
                .setAttribute("http.request.method", "POST")
                .setAttribute("url.path", "/v1/chat")
                .setAttribute("http.response.status_code", 200L)
                .setAttribute("app.tokens", 3L)
                .setAttribute(
                    AttributeKey.stringArrayKey("http.request.header.x-account-id"), List.of(arguments[4]))
                .startSpan();
        span.end();
        spans.add(((ReadableSpan) span).toSpanData());
      }
      CompletableResultCode result = exporter.export(spans).join(30, TimeUnit.SECONDS);
      System.out.println((result.isSuccess() ? "taken " : "lost ") + spans.size());
    }
    exporter.shutdown().join(10, TimeUnit.SECONDS);
  }
}
