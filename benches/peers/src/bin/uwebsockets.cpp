// uWebSockets behind one function: uwebsockets.rs says where its form comes from.
#include "PerMessageDeflate.h"

// HttpResponse.h asks whether an application chose the smallest compressor by `options & 0x91`, which
// is true of each that belongs to a connection: all become the smallest, while the handshake names the
// window that was chosen. With this it asks what it means to ask, so that who is told 15:8 does the
// work of 15:8. As uWebSockets comes, it does that of 9:1.
namespace uWS {
struct Smallest {
    constexpr operator CompressOptions() const { return DEDICATED_COMPRESSOR_3KB; }
};
inline bool operator&(CompressOptions options, Smallest smallest) {
    return (options & _COMPRESSOR_MASK) == CompressOptions(smallest);
}
}
#define DEDICATED_COMPRESSOR_3KB Smallest()
#include "App.h"

struct Nothing {};

// Without compression the compiler drops it from the echo, as from one that knows nothing of it.
template <bool COMPRESS>
static void serve(const char *host, int port, unsigned int message_bytes_max, uWS::CompressOptions compression) {
    uWS::App()
        .ws<Nothing>("/*", {
            .compression = compression,
            .maxPayloadLength = message_bytes_max,
            // Echoes to a slow reader are queued, not dropped.
            .maxBackpressure = 4 * message_bytes_max,
            .message = [](auto *ws, std::string_view message, uWS::OpCode opcode) {
                ws->send(message, opcode, COMPRESS);
            },
        })
        .listen(host, port, [](us_listen_socket_t *) {})
        .run();
}

// Serves for ever; returns only if it cannot listen.
extern "C" void echo(const char *host, int port, unsigned int message_bytes_max, unsigned short compression) {
    auto options = uWS::CompressOptions(compression);
    if (options == uWS::DISABLED) {
        serve<false>(host, port, message_bytes_max, options);
    } else {
        serve<true>(host, port, message_bytes_max, options);
    }
}
