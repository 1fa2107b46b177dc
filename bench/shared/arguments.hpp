// The command line of the bench's programs: --name value, one after the other. What is not understood ends the program.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>

namespace pgsluice::bench {

inline const char *program = "bench";  ///< what complaints begin with

[[noreturn]] inline void fail(const std::string &why) {
    std::fprintf(stderr, "%s: %s\n", program, why.c_str());
    std::exit(1);
}

class arguments {
public:
    arguments(int count, char **values) : count_(count), values_(values) {}

    /// Goes to the next one; false after the last.
    bool next() {
        if (++at_ >= count_) return false;
        name_ = values_[at_];
        return true;
    }
    bool is(std::string_view name) const { return name_ == name; }
    const char *text() {
        if (at_ + 1 >= count_) fail("no value for " + std::string(name_));
        return values_[++at_];
    }
    template <class Number>
    Number number() {
        return static_cast<Number>(std::strtod(text(), nullptr));
    }
    [[noreturn]] void unknown() const { fail("unknown argument " + std::string(name_)); }

private:
    int count_, at_ = 0;
    char **values_;
    std::string_view name_;
};

}  // namespace pgsluice::bench
