// The complaint and the watch over memory, for every target. The global operator new is replaced to count.
#include "fuzz/fuzz.hpp"

#include <malloc.h>

#include <cstdio>
#include <cstdlib>
#include <new>

namespace {

// Generous for what a session holds, and far below what a length field can say.
constexpr std::size_t most_besides_bytes = 512 * 1024;
constexpr std::size_t most_for_each_byte = 64;

bool watching = false;
std::size_t held_bytes = 0, most_bytes = 0;

void *allocate(std::size_t size) {
    if (watching && size > most_bytes) pgsluice::fuzz::fail("an allocation far beyond what was sent");
    void *const at = std::malloc(size == 0 ? 1 : size);
    if (at == nullptr) throw std::bad_alloc();
    if (watching) {
        held_bytes += malloc_usable_size(at);
        // What was allocated before the watch began is subtracted when it is freed: the sum may wrap below zero.
        if (held_bytes > most_bytes && held_bytes < ~std::size_t{0} / 2)
            pgsluice::fuzz::fail("more memory is held than was sent");
    }
    return at;
}

void release(void *at) noexcept {
    if (watching && at != nullptr) held_bytes -= malloc_usable_size(at);
    std::free(at);
}

}  // namespace

void *operator new(std::size_t size) {
    return allocate(size);
}
void *operator new[](std::size_t size) {
    return allocate(size);
}
void *operator new(std::size_t size, const std::nothrow_t &) noexcept {
    return allocate(size);
}
void *operator new[](std::size_t size, const std::nothrow_t &) noexcept {
    return allocate(size);
}
void operator delete(void *at) noexcept {
    release(at);
}
void operator delete[](void *at) noexcept {
    release(at);
}
void operator delete(void *at, std::size_t) noexcept {
    release(at);
}
void operator delete[](void *at, std::size_t) noexcept {
    release(at);
}

namespace pgsluice::fuzz {

void fail(std::string_view what) {
    watching = false;
    std::fprintf(stderr, "\n==== %.*s\n", static_cast<int>(what.size()), what.data());
    std::abort();
}

bool talks() {
    static const bool it = std::getenv("PGSLUICE_FUZZ_TALK") != nullptr;
    return it;
}

void tell(std::string_view who, const void *which, std::string_view what, std::string_view bytes) {
    if (!talks()) return;
    std::fprintf(stderr, "%.*s %03zx %.*s ", static_cast<int>(who.size()), who.data(),
                 reinterpret_cast<std::size_t>(which) / 16 % 0xfff, static_cast<int>(what.size()), what.data());
    for (const char c : bytes) {
        const auto code = static_cast<unsigned char>(c);
        code >= 32 && code < 127 ? std::fprintf(stderr, "%c", c) : std::fprintf(stderr, "\\%02x", code);
    }
    std::fprintf(stderr, "\n");
}

memory_watch::memory_watch(std::size_t input_bytes) {
    held_bytes = 0;
    most_bytes = most_besides_bytes + most_for_each_byte * input_bytes;
    watching = true;
}
memory_watch::~memory_watch() {
    watching = false;
}

}  // namespace pgsluice::fuzz
