// Fuzz target: what a client is told through the pooler, on servers that change from transaction to transaction, is
// what one server of its own would have told it: types, tags, states, rows and SQLSTATEs, in order. Input as of
// client_bytes without its login. Only what the model server reads as PostgreSQL does is compared; the rest of the
// input is cut off.
#include <vector>

#include "fuzz/house.hpp"

using namespace pgsluice;

namespace {

using words = std::vector<std::string>;

std::string lower(std::string_view text) {
    return test::sql_session::lower(std::string(text));
}

/// What is not said in one way only: SQL about names that the model does not read as PostgreSQL does.
bool plain(std::string_view sql) {
    const auto small = lower(sql);
    if (small.find("pgsluice") != std::string::npos) return false;
    if (small.find("deallocate") == std::string::npos && small.find("discard") == std::string::npos) return true;
    if (small == "discard all" || small == "deallocate all") return true;
    constexpr std::string_view word = "deallocate ";
    if (!small.starts_with(word) || small.size() == word.size()) return false;
    const auto name = small.substr(word.size());
    const bool letters = name.find_first_not_of("abcdefghijklmnopqrstuvwxyz") == std::string::npos;
    return letters && name.size() < 63 && name != "prepare" && name != "all";
}

/// Whether the message is well formed, as far as its strings go, and can be compared.
bool comparable(char type, std::string_view body) {
    const auto name = [&body](std::string_view &taken) {
        const auto end = body.find('\0');
        if (end == std::string_view::npos) return false;
        taken = body.substr(0, end);
        body.remove_prefix(end + 1);
        return true;
    };
    std::string_view first, second;
    switch (type) {
        case 'Q':
            return name(first) && body.empty() && plain(first);
        case 'P':
            return name(first) && name(second) && first.size() <= 63 && plain(second);
        case 'B':
            return name(first) && name(second) && second.size() <= 63;
        case 'D':
        case 'C':
            if (body.empty() || (body[0] != 'S' && body[0] != 'P')) return false;
            body.remove_prefix(1);
            return name(first) && body.empty() && first.size() <= 63;  // else PostgreSQL's to refuse
        case 'E':
            return name(first);
        case 'F':
        case 'H':
        case 'S':
        case 'c':
        case 'd':
        case 'f':
            return true;
        default:
            return false;
    }
}

/// The messages at the front that can be compared.
std::string_view comparable_part(std::string_view bytes) {
    std::size_t at = 0;
    while (bytes.size() - at >= 5) {
        std::size_t length = 0;
        for (std::size_t i = 1; i < 5; ++i) length = length << 8 | static_cast<unsigned char>(bytes[at + i]);
        if (length < 4 || bytes.size() - at < length + 1) break;
        if (!comparable(bytes[at], bytes.substr(at + 5, length - 4))) break;
        at += length + 1;
    }
    return bytes.substr(0, at);
}

/// What was said, without what may come at any time.
words read(std::string_view bytes) {
    words all;
    for (const auto &it : test::frames(std::string(bytes))) {
        if (std::string_view("SNA").find(it.type) != std::string_view::npos) continue;
        all.emplace_back(1, it.type);
        if (it.type == 'E') {
            const auto code = it.body.find(std::string("\0C", 2));
            all.back() += code == std::string::npos ? "" : it.body.substr(code + 2, 5);
        } else {
            all.back() += it.body;
        }
    }
    return all;
}

void tell(std::string_view whose, const words &all) {
    for (const auto &it : all) fuzz::tell(whose, nullptr, "said", it);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    constexpr int limits[] = {200, 1, 2, 3};  // of max_prepared_statements
    fuzz::input in(data, size);
    const auto choices = in.byte();
    const auto seed = in.byte();
    const auto bytes = comparable_part(in.rest());
    fuzz::dice cuts(seed);

    fuzz::model_server own;
    own.hear(bytes);
    while (own.step()) {
    }
    const auto right = read(own.take());

    test::world world;
    world.pool.pool_mode = config::pool_mode::transaction;
    world.settings.global.max_prepared_statements = limits[choices / 32 % 4];
    fuzz::house all(world);
    all.add_server(true, true);
    all.add_server(true, true);
    auto &client = all.add_client(true);
    client.keep = true;
    client.wire = bytes;
    const auto answer = [&](fuzz::dice *dice) {
        for (bool any = true; any;) {
            any = false;
            for (auto &it : all.servers()) any = all.answer(*it, dice) || any;
        }
        if (cuts.pick(2) == 0) std::swap(all.servers()[0], all.servers()[1]);  // the other is the first to be taken
    };
    while (!client.wire.empty() && !client.gone) {
        all.deliver_wire(client, seed < 2 ? client.wire.size() : 1 + cuts.pick(cuts.pick(8) == 0 ? 200 : 12));
        if (seed % 2 != 0 && cuts.pick(2) == 0) answer(&cuts);
    }
    answer(&cuts);
    auto told = read(client.heard);
    if (fuzz::talks()) {
        tell("own", right);
        tell("pooled", told);
    }
    if (own.dead() || client.gone) {  // how a connection ends that can not go on is not compared
        // What is behind a COPY that has eaten Syncs, and then failed, can not always be told (owed_replies).
        const bool may_be_lost = client.gone && own.synced_in_copy();
        fuzz::require(own.dead() == client.gone || may_be_lost, "only one of the two connections has ended");
        while (!told.empty() && told.back()[0] == 'E') told.pop_back();
        told.resize(std::min(told.size(), right.size()));
        fuzz::require(std::equal(told.begin(), told.end(), right.begin()), "the client was told something else");
        return 0;
    }
    fuzz::require(told == right, "the client was told something else");
    return 0;
}
