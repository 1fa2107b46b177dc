// The man in the middle between pgsluice and PostgreSQL: passes bytes on, and cuts every connection after the nth byte
// that the server sends from a chosen moment on. Its own thread; the calls may come from any other.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <mutex>
#include <string>
#include <thread>

namespace pgsluice::cuts {

enum class cut_by : std::uint8_t { close, reset };

class severing {
public:
    /// Listens on 127.0.0.1:port, connects to 127.0.0.1:target.
    severing(std::uint16_t port, std::uint16_t target);
    ~severing();

    /// From now on `bytes` more of the server's pass, then all connections end.
    void arm(std::uint64_t bytes, cut_by how);
    /// True when it has cut since arm(); nothing is cut any more.
    bool disarm();
    /// Bytes of servers passed on since the start.
    std::uint64_t passed() const { return passed_; }

private:
    struct link {
        int client = -1, server = -1;
        std::string to_client, to_server;
        bool over = false;
    };
    void run();
    void accept();
    void move(link &);
    void receive(link &, int from, std::string &into);
    static void deliver(link &, int to, std::string &from);
    void sever();
    static void end(link &, bool by_reset);

    std::uint16_t target_;
    int listener_ = -1;
    std::list<link> links_;
    std::atomic<bool> stop_{false};
    std::atomic<std::uint64_t> passed_{0};
    std::mutex guard_;  ///< of the following
    std::uint64_t left_ = never;
    cut_by how_ = cut_by::close;
    bool fired_ = false;
    static constexpr std::uint64_t never = ~std::uint64_t{0};
    std::thread thread_;
};

}  // namespace pgsluice::cuts
