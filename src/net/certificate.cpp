// Reading names by OpenSSL.
#include "net/certificate.hpp"

#include <openssl/bio.h>
#include <openssl/x509v3.h>

#include <memory>

namespace pgsluice::net {

namespace {

/// Empty when there is a NUL in it.
std::string text_of(const ASN1_STRING *text) {
    unsigned char *utf8 = nullptr;
    const int length = text == nullptr ? -1 : ASN1_STRING_to_UTF8(&utf8, text);
    if (length < 0) return {};
    std::string found(reinterpret_cast<char *>(utf8), static_cast<std::size_t>(length));
    OPENSSL_free(utf8);
    return found.find('\0') == std::string::npos ? found : std::string();
}

std::string bytes_of(const ASN1_STRING *text) {
    const auto *const data = reinterpret_cast<const char *>(ASN1_STRING_get0_data(text));
    return {data, static_cast<std::size_t>(ASN1_STRING_length(text))};
}

}  // namespace

std::string common_name(const X509 *certificate) {
    const auto *const subject = X509_get_subject_name(certificate);
    const int first = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    return first < 0 ? std::string() : text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, first)));
}

std::string whole_subject(const X509 *certificate) {
    const std::unique_ptr<BIO, decltype(&BIO_free_all)> out(BIO_new(BIO_s_mem()), &BIO_free_all);
    if (!out || X509_NAME_print_ex(out.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) return {};
    char *text = nullptr;
    const auto length = BIO_get_mem_data(out.get(), &text);
    return length > 0 ? std::string(text, static_cast<std::size_t>(length)) : std::string();
}

auth::certificate_names names_of(const X509 *certificate) {
    auth::certificate_names found;
    found.common_name = common_name(certificate);
    const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(
        static_cast<GENERAL_NAMES *>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)),
        &GENERAL_NAMES_free);
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const auto *const it = sk_GENERAL_NAME_value(names.get(), i);
        if (it->type == GEN_DNS) found.dns.push_back(text_of(it->d.dNSName));
        if (it->type == GEN_IPADD) found.addresses.push_back(bytes_of(it->d.iPAddress));
    }
    return found;
}

}  // namespace pgsluice::net
