// Fuzz target: the fields of errors and notices. What is read is written again, and then read to the same fields.
#include "fuzz/fuzz.hpp"
#include "support/messages.hpp"
#include "wire/error_response.hpp"

using namespace pgsluice;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const fuzz::memory_watch watch(size);
    const std::string_view body(reinterpret_cast<const char *>(data), size);
    const auto fields = wire::parse_error_fields(body);
    if (!fields) return 0;
    std::string again;
    wire::append_error_response(again, *fields);
    const auto cut = test::frames(again);  // throws when it is not one message
    fuzz::require(cut.size() == 1 && cut[0].type == 'E', "more than one message was written");
    const auto same = wire::parse_error_fields(cut[0].body);
    fuzz::require(same.has_value(), "what was written can not be read");
    fuzz::require(same->severity == fields->severity && same->sqlstate == fields->sqlstate &&
                      same->message == fields->message && same->detail == fields->detail && same->hint == fields->hint,
                  "fields differ after writing them");
    return 0;
}
