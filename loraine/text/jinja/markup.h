// Text that went through |safe or |escape, Python's Markup: what is added to it is escaped, and most of what is made of it stays marked.
// Used by the operators, the methods, the formats and the filters.
#pragma once
#include <string>

#include "loraine/text/jinja/value.h"

namespace loraine::jinja {

inline bool is_safe(const Value& value) { return value.is_string() && static_cast<const StringObject&>(*value.o).safe; }
std::string escape(const std::string& text);  // & < > ' " as entities
std::string escaped(const Value& value);      // its text, as it is where it is marked
Value marked(const Value& value);             // a text, or the texts of a list or tuple, as Markup; others as they are

}  // namespace loraine::jinja
