// What PostgreSQL's scanner makes of the SQL that change_parameters() writes: an independent lexer for '...' and "..."
// by the rules of the manual ("Lexical Structure"), which knows standard_conforming_strings and whether the encoding
// has trailing bytes that look like ASCII, and a session that carries out SET and set_config(). Throws on anything
// else.
#pragma once

#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::test {

class sql_session {
public:
    std::map<std::string, std::string> values;  ///< by name in lower case

    /// A simple query: read as a whole under the settings before it, then run.
    void query(std::string_view sql) {
        const auto words = scan(sql);
        std::size_t at = 0;
        const auto expect = [&](std::string_view text) {
            if (at >= words.size() || words[at].text != text || words[at].kind != 'w')
                throw std::runtime_error("expected " + std::string(text) + " in " + std::string(sql));
            ++at;
        };
        const auto literal = [&](char kind) {
            if (at >= words.size() || words[at].kind != kind)
                throw std::runtime_error("expected a literal in " + std::string(sql));
            return words[at++].text;
        };
        std::vector<std::pair<std::string, std::string>> changes;
        while (at < words.size()) {
            std::string name, value;
            if (words[at].text == "SET") {
                ++at;
                name = literal('"');
                expect("=");
                value = literal('\'');
            } else {
                for (const auto *text : {"SELECT", "pg_catalog", ".", "set_config", "("}) expect(text);
                name = literal('\'');
                expect(",");
                value = literal('\'');
                for (const auto *text : {",", "false", ")"}) expect(text);
            }
            expect(";");
            changes.emplace_back(lower(name), value);
        }
        for (auto &[name, value] : changes) values[name] = std::move(value);
    }

    static std::string lower(std::string text) {
        for (auto &c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
        return text;
    }

private:
    struct word {
        char kind;  ///< w a word or sign, ' or " a literal
        std::string text;
    };

    /// Bytes of the character at `at`: SJIS, BIG5, GBK, UHC and GB18030 have second bytes of 0x40 to 0x7e.
    std::size_t character(std::string_view sql, std::size_t at) {
        const auto first = static_cast<unsigned char>(sql[at]);
        if (!wide_ || first < 0x81 || (sjis_ && first >= 0xa0 && first <= 0xdf)) return 1;
        return at + 1 < sql.size() ? 2 : 1;
    }

    std::vector<word> scan(std::string_view sql) {
        const auto encoding = lower(values["client_encoding"]);
        sjis_ = encoding == "sjis";
        wide_ = sjis_ || encoding == "big5" || encoding == "gbk" || encoding == "uhc";
        conforming_ = values["standard_conforming_strings"] != "off";
        std::vector<word> all;
        for (std::size_t at = 0; at < sql.size();) {
            const char c = sql[at];
            if (c == ' ') {
                ++at;
            } else if (c == '\'' || c == '"') {
                std::string text;
                for (++at;;) {
                    if (at >= sql.size()) throw std::runtime_error("a literal without end");
                    const auto size = character(sql, at);
                    if (size == 1 && sql[at] == '\\' && c == '\'' && !conforming_)
                        throw std::runtime_error("a backslash that the server would take for an escape");
                    if (size == 1 && sql[at] == c) {
                        if (at + 1 < sql.size() && sql[at + 1] == c) {
                            text += c;
                            at += 2;
                            continue;
                        }
                        ++at;
                        break;
                    }
                    text += sql.substr(at, size);
                    at += size;
                }
                all.push_back({c, text});
            } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_') {
                std::string text;
                while (at < sql.size() &&
                       ((sql[at] >= 'a' && sql[at] <= 'z') || (sql[at] >= 'A' && sql[at] <= 'Z') || sql[at] == '_'))
                    text += sql[at++];
                all.push_back({'w', text});
            } else {
                all.push_back({'w', std::string(1, c)});
                ++at;
            }
        }
        return all;
    }

    bool wide_ = false, sjis_ = false, conforming_ = true;  ///< of the text that is scanned
};

}  // namespace pgsluice::test
