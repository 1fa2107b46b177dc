// The rules of due.hpp.
#include "differential/due.hpp"

#include <string_view>

namespace pgsluice::differential {

void due::sent(char type, bool fails_copy) {
    if (type == 'S') skipping_ = false;
    if (skipping_ || type == 'H') return;
    if (std::string_view("PBDECSQF").find(type) != std::string_view::npos) {
        asked_ += type;
    } else if (type == 'c' || type == 'f') {
        asked_ += 'c';
    } else if (type == 'd') {
        if (fails_copy) asked_ += bad_data;
    } else {
        blind_ = true;
    }
    if (!copying_) drop_ends();
}

void due::drop_ends() {
    while (!asked_.empty() && (asked_[0] == 'c' || asked_[0] == bad_data)) asked_.erase(0, 1);
}

/// What the COPY has read goes, up to its end or what broke it; Syncs among it were ignored.
void due::end_of_copy() {
    copying_ = false;
    const auto end = asked_.find_first_not_of('S', 1);
    if (end == std::string::npos || (asked_[end] != 'c' && asked_[end] != bad_data)) {
        blind_ = true;
    } else {
        asked_.erase(1, end);
    }
}

void due::received(char type) {
    if (blind_ || type == 'N' || type == 'A' || type == 'S') return;
    if (asked_.empty()) {
        blind_ = true;  // it is about to close
        return;
    }
    const char head = asked_[0];
    if (copying_ && (type == 'C' || type == 'E')) end_of_copy();
    switch (type) {
        case 'G':
            copying_ = true;
            break;
        case 'E':
            if (head == 'Q' || head == 'F' || head == 'S') return;
            skipping_ = asked_.find('S') == std::string::npos;
            asked_.erase(0, asked_.find('S'));
            break;
        case '1':
        case '2':
        case '3':
        case 'n':
        case 's':
        case 'Z':
            asked_.erase(0, 1);
            break;
        case 'T':
            if (head == 'D') asked_.erase(0, 1);
            break;
        case 'C':
        case 'I':
            if (head == 'E') asked_.erase(0, 1);
            break;
        default:
            break;
    }
    if (!copying_) drop_ends();
}

bool due::more() const {
    if (blind_) return false;
    if (copying_) return asked_.find_first_of("c!", 1) != std::string::npos;
    return !asked_.empty();
}

}  // namespace pgsluice::differential
