// Rows of the tables of SHOW that come from the settings, from the ledger's picture and from the counts of traffic.
// Those of connections are made where the connections are (net/connection_rows). Pure; any thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "core/console_table.hpp"
#include "core/console_view.hpp"
#include "core/name_book.hpp"
#include "core/traffic.hpp"

namespace pgsluice::core {

using console_rows = std::vector<console_row>;

console_rows config_rows(const config::settings &);
console_rows database_rows(const config::settings &, const console_view &);
console_rows pool_rows(const console_view &);
console_rows user_rows(const config::settings &, const console_view &);
console_rows list_rows(const config::settings &, const console_view &, const dns_counts &);
console_rows peer_rows(const console_view &);
console_rows peer_pool_rows(const console_view &);
console_rows dns_host_rows(const name_book &, base::time_point now);
console_rows dns_zone_rows(const name_book &);
console_rows state_rows(const console_view &, bool suspended);

/// Traffic of each database, the console's included.
using traffic_by_database = std::map<std::string, traffic, std::less<>>;
/// What a period of time came to: per second for counts and waits, per transaction or query for their times.
traffic average(const traffic &before, const traffic &now, base::duration period);
/// Of stats, stats_totals, stats_averages or totals. A database without an average has had no whole period yet.
console_rows stats_rows(console_table, const traffic_by_database &totals, const traffic_by_database &averages);
/// The line of log_stats.
std::string stats_line(const traffic &averages);

}  // namespace pgsluice::core
