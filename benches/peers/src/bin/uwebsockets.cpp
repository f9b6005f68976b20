// uWebSockets behind one function: uwebsockets.rs says where its form comes from.
#include "App.h"

struct Nothing {};

// Serves for ever; returns only if it cannot listen.
extern "C" void echo(const char *host, int port, unsigned int message_bytes_max) {
    uWS::App()
        .ws<Nothing>("/*", {
            .compression = uWS::DISABLED,
            .maxPayloadLength = message_bytes_max,
            // Echoes to a slow reader are queued, not dropped.
            .maxBackpressure = 4 * message_bytes_max,
            .message = [](auto *ws, std::string_view message, uWS::OpCode opcode) {
                ws->send(message, opcode);
            },
        })
        .listen(host, port, [](us_listen_socket_t *) {})
        .run();
}
