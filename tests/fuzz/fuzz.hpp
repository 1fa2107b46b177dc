// What every fuzz target needs: the input read as numbers and pieces, dice that the input seeds, the complaint that
// ends a run, and the watch over memory. A target is one file with one LLVMFuzzerTestOneInput; it runs under libFuzzer
// (scripts/fuzz) and, over tests/fuzz/corpus, in the default tests (replay.cpp). One thread; every run starts anew.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size);

namespace pgsluice::fuzz {

/// Says what does not hold and ends the process: a finding.
[[noreturn]] void fail(std::string_view what);

inline void require(bool holds, std::string_view what) {
    if (!holds) fail(what);
}

/// With PGSLUICE_FUZZ_TALK in the environment, what happens is told on standard error, to understand a finding.
bool talks();
void tell(std::string_view who, const void *which, std::string_view what, std::string_view bytes = {});

/// The fuzzer's bytes from front to back; beyond the end there are zeros.
class input {
public:
    input(const std::uint8_t *data, std::size_t size) : rest_(reinterpret_cast<const char *>(data), size) {}

    bool empty() const { return rest_.empty(); }
    unsigned byte() {
        if (rest_.empty()) return 0;
        const auto first = static_cast<unsigned char>(rest_.front());
        rest_.remove_prefix(1);
        return first;
    }
    unsigned pick(unsigned below) { return byte() % below; }
    std::uint32_t u32() {
        std::uint32_t value = 0;
        for (int i = 0; i < 4; ++i) value = value << 8 | byte();
        return value;
    }
    /// At most `count` bytes.
    std::string_view bytes(std::size_t count) {
        const auto taken = rest_.substr(0, count);
        rest_.remove_prefix(taken.size());
        return taken;
    }
    std::string_view rest() { return bytes(rest_.size()); }

private:
    std::string_view rest_;
};

/// Numbers that follow from one number of the input: where its bytes are cut, and who goes first.
class dice {
public:
    explicit dice(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15U + 1) {}
    std::size_t pick(std::size_t below) {
        state_ = state_ * 6364136223846793005U + 1442695040888963407U;  // Knuth, MMIX
        return static_cast<std::size_t>(state_ >> 33) % below;
    }

private:
    std::uint64_t state_;
};

/// Watches what operator new gives out while it lives. Nothing may be allocated because a length field says so: what a
/// run holds, and what it asks for at once, stays within a constant and a factor of what it was sent.
class memory_watch {
public:
    explicit memory_watch(std::size_t input_bytes);
    ~memory_watch();
    memory_watch(const memory_watch &) = delete;
    memory_watch &operator=(const memory_watch &) = delete;
};

}  // namespace pgsluice::fuzz
