// What PostgreSQL's scanner makes of the SQL that change_parameters() writes: an independent lexer for '...' and "..."
// by the rules of the manual ("Lexical Structure"), which knows standard_conforming_strings and whether the encoding
// has trailing bytes that look like ASCII, and a session that carries out SET, RESET and set_config(). Throws on
// anything else.
#pragma once

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace pgsluice::test {

class sql_session {
public:
    std::map<std::string, std::string> values;  ///< by name in lower case
    std::map<std::string, std::string> own;     ///< what RESET brings back; what is not in it goes

    /// A simple query: read as a whole under the settings before it, then run.
    void query(std::string_view sql) {
        words_ = scan(sql);
        at_ = 0;
        while (at_ < words_.size()) {
            if (next_is("SET")) {
                const auto name = literal('"');
                expect("=");
                change(name, literal('\''));
            } else if (next_is("RESET")) {
                change(literal('"'), std::nullopt);
            } else {
                expect("SELECT");
                value();
            }
            expect(";");
        }
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

    using nullable = std::optional<std::string>;  ///< or NULL

    bool next_is(std::string_view sign) {
        const bool is = at_ < words_.size() && words_[at_].text == sign && words_[at_].kind == 'w';
        if (is) ++at_;
        return is;
    }
    void expect(std::string_view sign) {
        if (!next_is(sign)) throw std::runtime_error("expected " + std::string(sign));
    }
    std::string literal(char kind) {
        if (at_ >= words_.size() || words_[at_].kind != kind) throw std::runtime_error("expected a literal");
        return words_[at_++].text;
    }
    void change(const std::string &name, const nullable &to) {
        if (to) {
            values[lower(name)] = *to;
        } else if (const auto it = own.find(lower(name)); it != own.end()) {
            values[lower(name)] = it->second;
        } else {
            values.erase(lower(name));
        }
    }
    /// A literal, NULL, or a call of one of the functions that we use; each must be told to be pg_catalog's.
    nullable value() {
        if (next_is("NULL")) return std::nullopt;
        for (const auto *truth : {"true", "false"})
            if (next_is(truth)) return truth;
        if (at_ < words_.size() && words_[at_].kind == '\'') return literal('\'');
        expect("pg_catalog");
        expect(".");
        if (at_ >= words_.size()) throw std::runtime_error("expected a function");
        const auto function = words_[at_++].text;
        expect("(");
        std::vector<nullable> given;
        do given.push_back(value());
        while (next_is(","));
        expect(")");
        if (function == "set_config" && given.size() == 3 && given[2] == "false") {
            change(given[0].value(), given[1]);
            return given[1];
        }
        if (function == "current_setting" && given.size() == 2 && given[1] == "true") {
            const auto it = values.find(lower(given[0].value()));
            return it == values.end() ? nullable() : it->second;
        }
        if (function == "concat" && given.size() == 2) return given[0].value_or("") + given[1].value_or("");
        if (function == "substring" && given.size() == 2 && given[1] == "^=(.*)$") {
            return given[0] && given[0]->starts_with('=') ? given[0]->substr(1) : nullable();
        }
        throw std::runtime_error("an unknown call of " + function);
    }

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

    std::vector<word> words_;
    std::size_t at_ = 0;
    bool wide_ = false, sjis_ = false, conforming_ = true;  ///< of the text that is scanned
};

}  // namespace pgsluice::test
