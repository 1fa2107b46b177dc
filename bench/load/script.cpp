// The scenarios. Sources: shared/value.hpp for the texts; PostgreSQL manual, "Message Formats".
#include "script.hpp"

#include "../shared/arguments.hpp"
#include "wire/frontend.hpp"
#include "wire/writer.hpp"

namespace pgsluice::bench {

namespace {

const std::string no_tag(tag_bytes, '?');

/// A step's parts, put together one message after the other.
class builder {
public:
    step it;

    builder &query(const std::string &text, bool tagged = true) {
        wire::frontend::append_query(it.request, text + (tagged ? " " + no_tag : ""));
        if (tagged) it.tags.push_back(it.request.size() - tag_bytes - 1);
        return *this;
    }
    builder &parse(std::string_view name, const std::string &text) {
        wire::writer(it.request, 'P').cstring(name).cstring(text).u16(1).u32(25).finish();
        it.answers += '1';
        return *this;
    }
    builder &bind(std::string_view name) {
        wire::writer(it.request, 'B')
            .cstring("")
            .cstring(name)
            .u16(0)
            .u16(1)
            .u32(tag_bytes)
            .bytes(no_tag)
            .u16(0)
            .finish();
        it.tags.push_back(it.request.size() - tag_bytes - 2);
        it.answers += '2';
        return *this;
    }
    builder &describe() {
        wire::writer(it.request, 'D').u8('P').cstring("").finish();
        it.answers += 'T';
        return *this;
    }
    builder &execute() {
        wire::writer(it.request, 'E').cstring("").u32(0).finish();
        it.answers += "DC";
        return *this;
    }
    builder &sync() {
        wire::frontend::append_sync(it.request);
        it.answers += 'Z';
        return *this;
    }
    builder &expect(std::string_view types, char status = 'I') {
        it.answers += types;
        it.status = status;
        return *this;
    }
};

}  // namespace

script make_script(std::string_view name, std::size_t size) {
    script made;
    made.value_bytes = made.bytes = size;
    const auto row = "row " + std::to_string(size);
    const auto statement = "row_" + std::to_string(size);
    const auto pieces = size / copy_piece_bytes;
    if (name == "simple") {
        made.steps = {builder().query(row).expect("TDCZ").it};
    } else if (name == "extended") {
        made.steps = {builder().parse("", row + " $1").bind("").describe().execute().sync().it};
    } else if (name == "prepared" || name == "pipeline") {
        made.preparation = {builder().parse(statement, row + " $1").sync().it};
        made.transactions = name == "pipeline" ? 8 : 1;
        builder all;
        for (std::size_t i = 0; i < made.transactions; ++i) all.bind(statement).execute().sync();
        made.steps = {all.it};
        made.bytes *= made.transactions;
    } else if (name == "transaction") {
        made.steps = {builder().query("begin", false).expect("CZ", 'T').it, builder().query(row).expect("TDCZ", 'T').it,
                      builder().query("commit", false).expect("CZ").it};
    } else if (name == "copyout") {
        made.steps = {builder().query("copyout " + std::to_string(pieces)).expect("HddcCZ").it};
        made.steps[0].pieces = pieces;
        made.bytes = pieces * copy_piece_bytes;
    } else if (name == "copyin") {
        made.steps = {builder().query("copyin").expect("G").it, builder().expect("CZ").it};
        auto &data = made.steps[1];
        wire::writer(data.request, 'd').bytes(no_tag).finish();
        data.tags = {data.request.size() - tag_bytes};
        data.block = copy_block(pieces);
        wire::writer(data.tail, 'c').finish();
        data.new_request = false;
        made.bytes = pieces * copy_piece_bytes;
    } else if (name == "slow") {
        made.steps = {builder().query("slow " + std::to_string(size)).expect("TDCZ").it};
        made.value_bytes = made.bytes = 100;
    } else if (name == "long") {
        made.value_bytes = 100;
        made.steps = {builder().query("row 100").expect("TDCZ").it};
        auto &it = made.steps[0];
        // The text goes on behind the tag, up to its zero byte.
        it.request.back() = ' ';
        const auto length = static_cast<std::uint32_t>(it.request.size() - 1 + size + 1);
        for (unsigned i = 0; i < 4; ++i) it.request[1 + i] = static_cast<char>(length >> (24 - 8 * i));
        it.block = pattern(0, size);
        it.tail = std::string(1, '\0');
    } else {
        fail("no scenario is called " + std::string(name));
    }
    return made;
}

}  // namespace pgsluice::bench
