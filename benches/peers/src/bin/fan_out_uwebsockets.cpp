// Publish and subscribe of uWebSockets behind one function: fan_out_uwebsockets.rs says where its form
// comes from.
#include "App.h"

struct Nothing {};

// Serves for ever; returns only if it cannot listen.
extern "C" void fan_out(const char *host, int port, unsigned int message_bytes_max) {
    uWS::App app;
    app.ws<Nothing>("/sub", {
            .maxPayloadLength = message_bytes_max,
            // What a slow subscriber has not read is queued, not dropped.
            .maxBackpressure = 4 * message_bytes_max,
            .open = [](auto *ws) {
                ws->subscribe("news");
            },
        })
        .ws<Nothing>("/pub", {
            .maxPayloadLength = message_bytes_max,
            .message = [&app](auto *, std::string_view message, uWS::OpCode opcode) {
                app.publish("news", message, opcode);
            },
        })
        .listen(host, port, [](us_listen_socket_t *) {})
        .run();
}
