// etc/pgsluice.ini and docs/configuration.md list exactly what the tables hold, and the sample loads.
// Their generated parts are printed from the tables here: PGSLUICE_UPDATE_DOCUMENTS=1 unit_tests
// --gtest_filter='config_documents.*' writes them anew after a change of a table.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "config/entries.hpp"
#include "config/settings_table.hpp"
#include "unit/config_support.hpp"

namespace pgsluice::config {
namespace {

std::string source_path(const std::string &name) {
    return std::string(PGSLUICE_SOURCE_DIR) + "/" + name;
}

std::string read(const std::string &name) {
    std::ifstream file(source_path(name));
    EXPECT_TRUE(file.good()) << name;
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

/// The part of the file between two marker lines is `expected`; or is made so, when asked.
void check_part(const std::string &name, const std::string &begin, const std::string &end,
                const std::string &expected) {
    auto text = read(name);
    const auto from = text.find(begin + "\n");
    const auto to = text.find(end + "\n");
    ASSERT_TRUE(from != std::string::npos && to != std::string::npos) << name << ": " << begin;
    const auto first = from + begin.size() + 1;
    if (std::getenv("PGSLUICE_UPDATE_DOCUMENTS"))
        std::ofstream(source_path(name)) << text.replace(first, to - first, expected);
    EXPECT_EQ(read(name).substr(first, expected.size() + end.size()), expected + end) << name;
}

void check_reference_part(const std::string &part, const std::string &expected) {
    check_part("docs/configuration.md", "<!-- " + part + ": begin -->", "<!-- " + part + ": end -->", expected);
}

std::string markdown(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (c == '<' || c == '*' || c == '|') escaped += '\\';
        escaped += c;
    }
    return escaped;
}

std::string code(std::string_view text) {
    return text.empty() ? "" : "`" + std::string(text) + "`";
}

std::string row(const std::vector<std::string> &cells) {
    std::string line = "|";
    for (const auto &cell : cells) line += cell.empty() ? " |" : " " + cell + " |";
    return line + "\n";
}

std::string heading(const std::vector<std::string> &cells) {
    return row(cells) + row(std::vector<std::string>(cells.size(), "---"));
}

template <class Option>
std::string option_table(std::span<const Option> options) {
    auto text = heading({"Option", "Type", "Default", "Meaning", "Unlike PgBouncer"});
    for (const auto &option : options)
        text += row({code(option.name), std::string(option.type_text), markdown(option.default_text),
                     markdown(option.meaning), markdown(option.difference)});
    return text;
}

TEST(config_documents, reference_of_settings) {
    std::string text;
    const setting *before = nullptr;
    for (const auto &s : settings_table()) {
        if (!before || before->group != s.group)
            text += std::string(before ? "\n" : "") + "### " + to_string(s.group) + "\n\n" +
                    heading({"Setting", "Type", "Default", "Reload", "Meaning", "Unlike PgBouncer"});
        text += row({code(s.name), type_text(s), code(s.default_text), s.reloadable ? "yes" : "restart",
                     markdown(s.meaning), markdown(s.difference)});
        before = &s;
    }
    check_reference_part("settings", text);
}

TEST(config_documents, reference_of_options) {
    check_reference_part("databases", option_table(database_options()));
    check_reference_part("users", option_table(user_options()));
    check_reference_part("peers", option_table(peer_options()));
}

TEST(config_documents, sample_lists_every_setting) {
    // What the sample sets, so that it is a safe start: clients of this machine only, and with a password.
    const std::map<std::string_view, std::string> set{
        {"listen_addr", "127.0.0.1"}, {"auth_type", "scram-sha-256"}, {"auth_file", "/etc/pgsluice/userlist.txt"}};
    std::string text;
    const setting *before = nullptr;
    for (const auto &s : settings_table()) {
        if (!before || before->group != s.group)
            text += std::string(before ? "\n" : "") + ";; ---- " + to_string(s.group) + " ----\n";
        text += "\n;; " + std::string(s.meaning) + "\n;; " + type_text(s) + (s.reloadable ? "" : "; restart") +
                "; default: " + std::string(s.default_text.empty() ? "none" : s.default_text) + "\n";
        const auto found = set.find(s.name);
        text += std::string(found == set.end() ? ";" : "") + std::string(s.name) + " =";
        const auto value = found == set.end() ? std::string(s.default_text) : found->second;
        text += (value.empty() ? "" : " " + value) + "\n";
        before = &s;
    }
    check_part("etc/pgsluice.ini", ";; settings: begin", ";; settings: end", text);
}

TEST(config_documents, sample_names_every_option) {
    const auto text = read("etc/pgsluice.ini");
    const auto users = text.find("[users]");
    const auto peers = text.find("[peers]");
    const auto global = text.find("[pgbouncer]");
    const auto has_word = [](const std::string &part, std::string_view word) {
        return part.find(" " + std::string(word)) != std::string::npos ||
               part.find("(" + std::string(word)) != std::string::npos;
    };
    for (const auto &option : database_options()) EXPECT_TRUE(has_word(text.substr(0, users), option.name));
    for (const auto &option : user_options())
        EXPECT_TRUE(has_word(text.substr(users, peers - users), option.name)) << option.name;
    for (const auto &option : peer_options())
        EXPECT_TRUE(has_word(text.substr(peers, global - peers), option.name)) << option.name;
}

/// The sample as it is, and with every setting and entry uncommented: both load without a warning.
TEST(config_documents, sample_loads_without_warning) {
    const std::string as_is = read("etc/pgsluice.ini");
    std::istringstream lines(as_is);
    std::string all, line;
    while (std::getline(lines, line)) {
        const bool shown = line.size() > 1 && line[0] == ';' && line[1] != ';';
        all += (shown ? line.substr(1) : line) + "\n";
    }
    for (const auto &ini : {as_is, all}) {
        const auto result =
            test::load_files({{"p.ini", ini}, {"/etc/pgsluice/userlist.txt", read("etc/userlist.txt")}});
        EXPECT_EQ(test::fault_of(result), "");
        EXPECT_EQ(test::warnings_of(result), "");
    }
}

}  // namespace
}  // namespace pgsluice::config
