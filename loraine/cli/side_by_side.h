// Several answers in columns, for a terminal. Called by chat.
#pragma once
#include <string>
#include <vector>

namespace loraine {

// One column per text, each under its name, words wrapped to the column; `width` columns of the screen for all. Wide characters count two.
std::string side_by_side(const std::vector<std::string>& names, const std::vector<std::string>& texts, int width);

}  // namespace loraine
