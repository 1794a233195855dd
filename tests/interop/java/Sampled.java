// Prints trace ids that the SDK's own generator makes and its own sampler keeps.
//
// java -cp 'target/dependency/*' Sampled.java RATIO NUMBER

import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.trace.IdGenerator;
import io.opentelemetry.sdk.trace.samplers.Sampler;
import io.opentelemetry.sdk.trace.samplers.SamplingDecision;
import io.opentelemetry.sdk.trace.samplers.SamplingResult;
import java.util.List;

public final class Sampled {
  public static void main(String[] arguments) {
    Sampler sampler = Sampler.traceIdRatioBased(Double.parseDouble(arguments[0]));
    int left = Integer.parseInt(arguments[1]);
    while (left > 0) {
      String id = IdGenerator.random().generateTraceId();
      SamplingResult result =
          sampler.shouldSample(Context.root(), id, "GET", SpanKind.SERVER, Attributes.empty(), List.of());
      if (result.getDecision() == SamplingDecision.RECORD_AND_SAMPLE) {
        System.out.println(id);
        left -= 1;
      }
    }
  }
}
