// An ASP.NET Core API whose spans say whose request it was, and what it took.
using Microsoft.AspNetCore.Http.Features;
using OpenTelemetry.Exporter;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

var builder = WebApplication.CreateBuilder(args);
builder.Services.AddOpenTelemetry()
    .ConfigureResource(resource => resource.AddService("shop"))
    .WithTracing(tracing => tracing
        .SetSampler(new AlwaysOnSampler()) // the default leaves out what a caller has not sampled
        .AddAspNetCoreInstrumentation(options => options.EnrichWithHttpRequest = (activity, request) =>
        {
            if (request.Headers.TryGetValue("X-Account-Id", out var lines))
            {
                activity.SetTag("http.request.header.x-account-id", lines.ToArray());
            }
        })
        .AddOtlpExporter(options => options.Protocol = OtlpExportProtocol.HttpProtobuf));

var app = builder.Build();

app.MapPost("/v1/chat/completions", (HttpContext context) =>
{
    Billed(context, "app.tokens", 42);
    return new { answer = "42" };
});

app.MapGet("/v1/reports/{id:int}", (int id, string account, HttpContext context) =>
{
    Billed(context, "enduser.id", account); // url.query has every value replaced by "Redacted"
    return new { id };
});

app.Run();

// The SERVER span, also where another activity has been started since.
static void Billed(HttpContext context, string key, object value) =>
    context.Features.Get<IHttpActivityFeature>()?.Activity.SetTag(key, value);
