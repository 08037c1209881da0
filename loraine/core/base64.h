// Base64 as RFC 4648 writes it, padded. Used where files of tokenizers hold bytes as text.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace loraine {

std::string to_base64(std::string_view bytes);
std::optional<std::string> from_base64(std::string_view text);  // nothing where it is not base64 to the end

}  // namespace loraine
