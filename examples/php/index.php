<?php

// A Slim API whose spans say whose request it was, and what it took. The settings are in the environment: see README.md.
declare(strict_types=1);

use OpenTelemetry\API\Trace\LocalRootSpan;
use Psr\Http\Message\ResponseInterface as Response;
use Psr\Http\Message\ServerRequestInterface as Request;
use Psr\Http\Server\RequestHandlerInterface as Handler;
use Slim\Factory\AppFactory;

require __DIR__ . '/vendor/autoload.php';

$app = AppFactory::create();

// No setting captures headers. LocalRootSpan is the SERVER span; Span::getCurrent() is the one of this middleware.
$app->add(function (Request $request, Handler $handler): Response {
    $lines = array_unique($request->getHeader('X-Account-Id'));
    if (count($lines) === 1) {
        LocalRootSpan::current()->setAttribute('enduser.id', $lines[0]);
    }
    return $handler->handle($request);
});

$app->post('/v1/chat/completions', function (Request $request, Response $response): Response {
    LocalRootSpan::current()->setAttribute('app.tokens', 42);
    $response->getBody()->write('{"answer":"42"}');
    return $response;
});

$app->run();
