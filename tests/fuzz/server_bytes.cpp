// Fuzz target: a server that says anything, cut anyhow, while a well-behaved client works. Input: a byte of choices, a
// byte that picks the client's script (255: the script is in the input, behind two bytes of its length), a byte that
// seeds the cuts, then the server's bytes: its login first when the choices say so, else from its first reply on.
#include "fuzz/house.hpp"

using namespace pgsluice;
namespace fe = test::fe;

namespace {

/// What the client sends, a request at a time.
const std::vector<std::vector<std::string>> &scripts() {
    static const std::vector<std::vector<std::string>> it{
        {fe::query("select 1"), fe::query("select 2")},
        {fe::query("begin"), fe::query("select 1"), fe::query("commit")},
        {fe::unnamed("select 1") + fe::sync, fe::bind("", "") + fe::execute("") + fe::sync},
        {fe::unnamed("select 1") + fe::flush, fe::execute("") + fe::flush, fe::sync},
        {fe::unnamed("a") + fe::sync + fe::unnamed("b") + fe::sync + fe::query("c")},
        {fe::query("copy t from stdin"), fe::copy_data("1\n"), fe::copy_done, fe::query("select 1")},
        {fe::unnamed("copy t from stdin") + fe::copy_data("1\n") + fe::copy_done + fe::sync},
        {fe::unnamed("copy t from stdin") + fe::sync, fe::copy_fail("no"), fe::sync},
        {fe::query("copy t to stdout"), fe::function_call, fe::query("")},
        {fe::parse("s", "select 1") + fe::describe('S', "s") + fe::sync, fe::bind("", "s") + fe::execute("") + fe::sync,
         fe::close('S', "s") + fe::sync},
        {fe::parse("s", "select 1") + fe::bind("p", "s") + fe::describe('P', "p") + fe::execute("p") + fe::sync,
         fe::bind("", "s") + fe::execute("") + fe::bind("", "s") + fe::execute("") + fe::sync, fe::query("select 1")},
        {fe::sync, fe::flush, fe::sync},
    };
    return it;
}

/// The keys that a login by SCRAM would need, of a password that was derived once.
const auth::scram_derived &derived() {
    static const auth::scram_derived it = [] {
        const auto made = auth::make_scram_verifier("secret", "0123456789abcdef", 4096);
        return auth::scram_derived{made.salt, 4096, {made.stored_key, made.server_key}};
    }();
    return it;
}

core::server_secret secret_of(unsigned choice) {
    core::server_secret it;
    it.user = "app";
    if (choice == 1) it.credential = auth::parse_secret("md55d41402abc4b2a76b9719d911017c592");
    if (choice == 2) it.keys = derived().keys;
    if (choice == 3) {
        it.credential = auth::parse_secret("secret");
        it.derived = derived();
    }
    return it;
}

/// A server by password may ask for up to a million HMACs (auth::scram_iterations_max), unless it asks for what is
/// derived already; here that would only be time.
bool asks_for_work(std::string_view bytes) {
    const auto at = bytes.find(",i=");
    if (at == std::string_view::npos) return false;
    const auto digits = bytes.find_first_not_of("0123456789", at + 3);
    return bytes.substr(0, digits).find(",s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096") == std::string_view::npos;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static_cast<void>(derived());
    static_cast<void>(scripts());
    fuzz::input in(data, size);
    const fuzz::memory_watch watch(size);
    const auto choices = in.byte();
    const auto which = in.byte();
    const auto seed = in.byte();
    std::vector<std::string> script;
    if (which == 255) {
        const auto length = in.byte() << 8;
        script.emplace_back(in.bytes(length | in.byte()));
    } else {
        script = scripts()[which % scripts().size()];
    }
    fuzz::dice cuts(seed);
    const bool from_login = (choices & 1) != 0;
    auto secret = secret_of(choices >> 1 & 3);
    const auto bytes = in.rest();
    if (from_login && secret.derived && asks_for_work(bytes)) secret.credential = {};

    test::world world;
    constexpr config::pool_mode modes[] = {config::pool_mode::transaction, config::pool_mode::session,
                                           config::pool_mode::statement, config::pool_mode::transaction};
    world.pool.pool_mode = modes[choices >> 3 & 3];
    if ((choices & 32) != 0) world.pool.connect_query = "select 1";
    world.pool.server_reset_query_always = (choices & 64) != 0;
    fuzz::house all(world);
    auto &server = all.add_server(!from_login, false, std::move(secret));
    server.honest = false;
    // One client works, another has a value that no server has confirmed, so that its link begins with an errand.
    auto &client = all.add_client(true);
    auto &picky = all.add_client(false);
    all.arrives(picky, test::startup({{"user", "app"}, {"database", "db"}, {"application_name", "mine"}}));
    auto &first = (choices & 128) != 0 ? picky : client;
    auto &second = (choices & 128) != 0 ? client : picky;

    std::size_t next = 0;
    const auto work = [&] {
        if (next < script.size()) return all.arrives(first, script[next++]);
        if (next++ == script.size()) all.arrives(second, script[0]);
    };
    server.wire = bytes;
    std::uint64_t heard = 0;
    work();
    while (!server.wire.empty() && !server.lost) {
        all.deliver_wire(server, seed == 0 ? server.wire.size() : 1 + cuts.pick(cuts.pick(8) == 0 ? 300 : 16));
        // The client goes on when it was answered; a few dice make it go on before.
        const auto ready = first.out.count('Z') + first.out.count('G') + second.out.count('Z');
        if (std::exchange(heard, ready) != ready || cuts.pick(16) == 0) work();
        if (cuts.pick(64) == 0) all.check_query(server);
    }
    if (cuts.pick(2) == 0) all.pass(std::chrono::hours(10));
    all.ends(server);
    all.ends(first);
    all.ends(second);
    return 0;
}
