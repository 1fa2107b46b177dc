// Fields of errors and notices, both ways.
#include "wire/error_response.hpp"

#include "wire/reader.hpp"
#include "wire/writer.hpp"

namespace pgsluice::wire {

namespace {

void append_fields(std::string &out, char type, const error_fields &fields) {
    writer message(out, type);
    const auto field = [&message](char code, std::string_view value) {
        if (!value.empty()) message.u8(static_cast<std::uint8_t>(code)).cstring(value.substr(0, value.find('\0')));
    };
    field('S', fields.severity);
    field('V', fields.severity);
    field('C', fields.sqlstate);
    field('M', fields.message);
    field('D', fields.detail);
    field('H', fields.hint);
    message.u8(0).finish();
}

}  // namespace

void append_error_response(std::string &out, const error_fields &fields) {
    append_fields(out, 'E', fields);
}
void append_notice_response(std::string &out, const error_fields &fields) {
    append_fields(out, 'N', fields);
}

std::optional<error_fields> parse_error_fields(std::string_view body) {
    reader in(body);
    error_fields fields;
    std::string_view unlocalised;
    for (;;) {
        const char code = in.byte();
        if (!in.ok()) return std::nullopt;
        if (code == '\0') break;
        const auto value = in.cstring();
        if (!in.ok()) return std::nullopt;
        switch (code) {
            case 'S':
                fields.severity = value;
                break;
            case 'V':
                unlocalised = value;
                break;
            case 'C':
                fields.sqlstate = value;
                break;
            case 'M':
                fields.message = value;
                break;
            case 'D':
                fields.detail = value;
                break;
            case 'H':
                fields.hint = value;
                break;
            default:
                break;
        }
    }
    if (!in.done()) return std::nullopt;
    if (!unlocalised.empty()) fields.severity = unlocalised;
    return fields;
}

}  // namespace pgsluice::wire
