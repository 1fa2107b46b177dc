// What a daemon needs from the system: another user, the background, a pidfile, descriptors. Called by main() before
// any thread runs. Each returns what went wrong, or nothing.
#pragma once

#include <cstdint>
#include <string>

namespace pgsluice::net {

/// Gives up root for `name`; does nothing when `name` is empty or is who we are.
std::string become_user(const std::string &name);
/// Refuses when the pidfile names a process that lives.
std::string check_pidfile(const std::string &path);
std::string write_pidfile(const std::string &path);
/// Removes it if it is still ours.
void remove_pidfile(const std::string &path);
void go_to_background();
struct descriptor_limit {
    std::uint64_t soft = 0, hard = 0;
};
/// The soft limit of open files becomes the hard one; who may (root) raises both to `wanted` where they are less.
descriptor_limit raise_descriptor_limit(std::uint64_t wanted);

}  // namespace pgsluice::net
