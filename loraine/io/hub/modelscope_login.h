// The token that `modelscope login` keeps on this machine: a cookie, in a pickle of Python's, which is read without running anything.
// Called by environment.cpp.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace loraine {

// Where the client keeps it: $MODELSCOPE_HOME/credentials/cookies, else ~/.modelscope/credentials/cookies; MODELSCOPE_CREDENTIALS_PATH
// names the folder of the credentials, or the one above it.
std::filesystem::path modelscope_cookies();

// The value of the cookie m_session_id that is for `host` (or a domain that host lies in) and good at `now` (seconds since 1970). Empty
// where there is none. Throws bad_data with `file` for bytes that are no such pickle.
std::string session_cookie(const std::string& file, std::string_view bytes, const std::string& host, int64_t now);

}  // namespace loraine
