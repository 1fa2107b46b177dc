// Fuzz target: a client that says anything, cut anyhow, in front of well-behaved servers. Afterwards a decent client
// must find everything as it should be. Input: a byte of choices, a byte that seeds the cuts, then the client's bytes.
#include "auth/userlist.hpp"
#include "fuzz/house.hpp"

using namespace pgsluice;
namespace fe = test::fe;
namespace be = test::be;

namespace {

/// Every form of secret; the SCRAM ones of one iteration, so that a login costs nothing.
const std::map<std::string, auth::credential, std::less<>> &credentials() {
    static const auto it = [] {
        std::map<std::string, auth::credential, std::less<>> all;
        all["app"] = auth::parse_secret("secret");
        all["app"].verifier = auth::make_scram_verifier("secret", "0123456789abcdef", 1);
        all["hashed"] = auth::parse_secret("md55d41402abc4b2a76b9719d911017c592");
        all["scram"].form = auth::secret_form::scram;
        all["scram"].text = base::secret(std::string_view("SCRAM-SHA-256$..."));
        all["scram"].verifier = auth::make_scram_verifier("secret", "0123456789abcdef", 1);
        return all;
    }();
    return it;
}

constexpr config::pool_mode modes[] = {config::pool_mode::transaction, config::pool_mode::session,
                                       config::pool_mode::statement, config::pool_mode::transaction};
constexpr config::auth_type logins[] = {config::auth_type::any, config::auth_type::trust, config::auth_type::plain,
                                        config::auth_type::md5, config::auth_type::scram_sha_256};

constexpr int limits[] = {200, 1, 0, 2};  // of max_prepared_statements

void answer_all(fuzz::house &all, fuzz::dice *cuts) {
    for (bool any = true; any;) {
        any = false;
        for (std::size_t i = 0; i < all.servers().size(); ++i) {
            auto &server = *all.servers()[i];
            any = all.answer(server, cuts) || any;
            if (server.canceling) all.cancel_over(server, true);
        }
    }
}

/// The next client: gets its answer, whole, and nothing else.
void decent_client(test::world &world, fuzz::house &all) {
    answer_all(all, nullptr);
    all.check_rest();
    const bool served = std::any_of(all.servers().begin(), all.servers().end(), [](auto &it) { return it->free(); });
    if (!served) all.add_server(true, true);
    auto settings = std::make_shared<config::settings>(*world.env.settings);
    settings->global.auth_type = config::auth_type::any;
    world.env.settings = settings;
    auto &next = all.add_client(true);
    next.keep = true;
    const auto ask = [&](const std::string &question, const std::string &answer) {
        next.heard.clear();
        all.arrives(next, question);
        answer_all(all, nullptr);
        fuzz::require(next.heard == answer, "the next client is not answered as it should be");
    };
    const auto row = be::row("select mine") + be::complete("SELECT 1");
    ask(fe::query("select mine"), be::columns("c") + row + be::ready('I'));
    ask(fe::unnamed("select mine") + fe::sync,
        be::parse_complete + be::bind_complete + be::columns("c") + row + be::ready('I'));
    if (world.env.settings->global.max_prepared_statements > 0 || world.pool.pool_mode == config::pool_mode::session) {
        ask(fe::parse("s", "select mine") + fe::sync, be::parse_complete + be::ready('I'));
        ask(fe::bind("", "s") + fe::execute("") + fe::sync, be::bind_complete + row + be::ready('I'));
    }
    all.ends(next);
    answer_all(all, nullptr);
    all.pass(base::seconds(4));
    answer_all(all, nullptr);
    all.check_rest();
    for (const auto &it : all.servers()) fuzz::require(it->lost || it->free(), "a server is nobody's, and not free");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    const auto &known = credentials();
    fuzz::input in(data, size);
    const fuzz::memory_watch watch(size);
    const auto choices = in.byte();
    const auto seed = in.byte();
    fuzz::dice cuts(seed);

    test::world world;
    world.pool.pool_mode = modes[choices & 3];
    if ((choices & 3) == 3) world.pool.client_disconnect_action = config::disconnect_action::close;
    world.settings.credentials = known;
    world.settings.global.scram_iterations = 1;
    if ((choices & 4) == 0) world.settings.global.max_prepared_statements = limits[choices / 32 % 4];
    world.settings.global.auth_type = (choices & 4) == 0 ? config::auth_type::any : logins[choices / 32 % 5];
    world.settings.global.max_packet_size = (choices & 8) == 0 ? 0x7fffffff : 1000;
    world.settings.global.ignore_startup_parameters = {"extra_float_digits"};
    fuzz::house all(world);
    all.auto_grant = (choices & 16) == 0;
    all.add_server(true, true);
    all.add_server(true, true);
    auto &client = all.add_client((choices & 4) == 0);
    if ((choices & 4) == 0) fuzz::require(client.machine->state() == core::client_state::idle, "no welcome");

    // Even seeds keep the answers back until all was said; 0 and 1 send it in one piece.
    const bool keeps_back = seed % 2 == 0;
    client.wire = in.rest();
    while (!client.wire.empty() && !client.gone) {
        all.deliver_wire(client, seed < 2 ? client.wire.size() : 1 + cuts.pick(cuts.pick(8) == 0 ? 200 : 12));
        if (!all.auto_grant && cuts.pick(2) == 0) all.grant_anybody();
        if (!keeps_back && cuts.pick(2) == 0) answer_all(all, &cuts);
    }
    all.auto_grant = true;
    all.grant_anybody();
    answer_all(all, &cuts);
    all.check_rest();
    // Whatever it waited for, or did not finish: some time later it is gone.
    if (cuts.pick(2) == 0) all.pass(std::chrono::hours(10));
    all.ends(client);
    decent_client(world, all);
    return 0;
}
