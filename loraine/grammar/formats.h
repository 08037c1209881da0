// The formats of strings that schemas may name. Used by json_schema.cpp.
#pragma once
#include <string>
#include <string_view>

#include "loraine/grammar/characters.h"

namespace loraine::grammar {

const CharacterAutomaton* format_named(std::string_view name);  // nullptr: not known
std::string known_formats();                                    // "date, date-time, …"

}  // namespace loraine::grammar
