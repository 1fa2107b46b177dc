// What virtual clients do all day: sessions of random transactions, in every form the protocol has.
#pragma once

#include "session.hpp"

namespace oracle {

/// One virtual client, until the run is over.
awaitable<void> virtual_client(world &, std::size_t where, std::uint64_t number);

}  // namespace oracle
