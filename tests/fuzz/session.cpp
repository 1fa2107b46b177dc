// Fuzz target: the whole. The input is a schedule: bytes from two clients and two servers, right and wrong, cut
// anywhere; grants, cancels, deadlines, full sockets, reloads, the end of anybody. Each step is one byte (what happens,
// to whom, whether what is sent arrives at once) and its arguments. What must hold, house.hpp checks.
#include "fuzz/house.hpp"
#include "fuzz/phrases.hpp"

using namespace pgsluice;
using fuzz::from_clients;
using fuzz::from_servers;

namespace {

constexpr config::pool_mode modes[] = {config::pool_mode::transaction, config::pool_mode::session,
                                       config::pool_mode::statement};
constexpr base::duration times[] = {base::milliseconds(1), base::seconds(1), base::seconds(30), base::seconds(3000)};

constexpr int limits[] = {200, 1, 2, 0};  // of max_prepared_statements

class schedule {
public:
    schedule(test::world &world, fuzz::input in) : in_(in), all_(world) {
        for (unsigned i = 0; i < 2; ++i) {
            new_client(i, true);
            all_.add_server(true, true);
            server_[i] = i;
        }
    }
    void run() {
        while (!in_.empty()) step();
        for (std::size_t i = 0; i < all_.clients().size(); ++i) all_.ends(*all_.clients()[i]);
        all_.check_rest();
    }

private:
    fuzz::house::client_end &client(unsigned which) { return *all_.clients()[client_[which]]; }
    fuzz::house::server_end &server(unsigned which) { return *all_.servers()[server_[which]]; }

    /// The second client asks for "select 2" where the first asks for "select 1".
    static std::string own_words(std::string text, unsigned which) {
        for (auto at = text.find("select 1"); which == 1 && at != std::string::npos; at = text.find("select 1"))
            text[at + 7] = '2';
        return text;
    }
    void new_client(unsigned which, bool welcomed) {
        all_.add_client(welcomed).forbidden = which == 0 ? "select 2" : "select 1";
        client_[which] = all_.clients().size() - 1;
    }
    template <class End>
    void send(End &it, std::string_view bytes, bool at_once) {
        it.wire += bytes;
        if (at_once) all_.deliver_wire(it, it.wire.size());
    }
    void lie(fuzz::house::server_end &it, std::string_view bytes, bool at_once) {
        it.honest = false;
        send(it, bytes, at_once);
    }
    /// A whole message of the fuzzer's making, or a header that promises another length.
    std::string own_message(bool whole) {
        const auto type = static_cast<char>(in_.byte());
        if (!whole) return test::header(type, in_.u32());
        return test::message(type, in_.bytes(in_.byte()));
    }
    static const std::string &of(const std::vector<std::string> &table, unsigned index) {
        return table[index % table.size()];
    }

    void step() {
        const auto code = in_.byte();
        const auto which = code >> 5 & 1;
        const bool at_once = (code & 64) == 0;
        const bool other = (code & 128) != 0;
        auto &app = client(which);
        auto &back = server(which);
        switch (code & 31) {
            case 0:
            case 1:
                return send(app, own_words(of(from_clients(), in_.byte()), which), at_once);
            case 2:
                return send(app, in_.bytes(in_.byte() % 64), at_once);
            case 3:
                return send(app, own_message(!other), at_once);
            case 4:
            case 5:
                return lie(back, of(from_servers(), in_.byte()), at_once);
            case 6:
                return lie(back, in_.bytes(in_.byte() % 64), at_once);
            case 7:
                return lie(back, own_message(!other), at_once);
            case 8:
                return all_.deliver_wire(app, other ? in_.byte() : app.wire.size());
            case 9:
                return all_.deliver_wire(back, other ? in_.byte() : back.wire.size());
            case 10:
            case 11:
                static_cast<void>(all_.answer(back, nullptr, other));  // a cancel strikes, or an administrator's
                return;
            case 12: {  // its answers go by wire, to be cut
                if (back.lost || !back.model) return;
                while (back.model->step()) back.wire += back.model->take();
                return;
            }
            case 13:
                return all_.grant(back, other ? client(1 - which) : app);
            case 14:
                all_.auto_grant = !all_.auto_grant;
                return all_.auto_grant ? all_.grant_anybody() : void();
            case 15:
                return all_.pass(times[in_.byte() % 4]);
            case 16:
                return all_.cancel(app);
            case 17:
                return all_.cancel_over(back, !other);
            case 18:
                return all_.ends(app);
            case 19:
                return all_.ends(back);
            case 20:
                return all_.set_full(app, other);
            case 21:
                return all_.set_full(back, other);
            case 22:
                return all_.check_query(back);
            case 23:
                return all_.reload(modes[in_.byte() % 3]);
            case 24:
                if (!app.gone || all_.clients().size() > 16) return;
                return new_client(which, at_once);
            case 25:
                if (!back.lost || all_.servers().size() > 16) return;
                all_.add_server(at_once, at_once).honest = at_once;
                server_[which] = all_.servers().size() - 1;
                return;
            case 26:
                all_.hold_welcome = other;
                return;
            case 27:
                return all_.welcome(app);
            case 28:
                return all_.refuse(app, other ? core::refusal::shutting_down : core::refusal::query_wait_timeout);
            default:
                return;
        }
    }

    fuzz::input in_;
    fuzz::house all_;
    std::size_t client_[2], server_[2];
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
    static_cast<void>(from_clients());
    static_cast<void>(from_servers());
    fuzz::input in(data, size);
    const fuzz::memory_watch watch(size * 64);  // one byte of a schedule stands for a message of a table
    const auto choices = in.byte();
    const auto limit = in.byte();
    test::world world;
    world.settings.global.max_prepared_statements = limits[limit % 4];
    world.pool.pool_mode = modes[choices % 3];
    if ((limit & 4) != 0) world.pool.client_disconnect_action = config::disconnect_action::close;
    world.pool.server_reset_query_always = (choices & 4) != 0;
    if ((choices & 8) != 0) world.pool.server_check_query = "select 1";
    world.limits.query_timeout = base::seconds((choices & 16) != 0 ? 20 : 0);
    world.limits.idle_transaction_timeout = base::seconds((choices & 32) != 0 ? 10 : 0);
    world.limits.transaction_timeout = base::seconds((choices & 64) != 0 ? 25 : 0);
    world.limits.client_idle_timeout = base::seconds((choices & 128) != 0 ? 2000 : 0);
    world.query_wait_notify = base::seconds(5);
    schedule it(world, in);
    it.run();
    return 0;
}
