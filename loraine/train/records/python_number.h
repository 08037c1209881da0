// Numbers and JSON spelled as Python spells them (repr, json.dumps), so that run files equal those of the Hugging Face Trainer byte for
// byte. Used by metrics, model_card and plot.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace loraine {

using OrderedJson = nlohmann::ordered_json;  // keeps the order of insertion

std::string python_repr(double x);                 // shortest digits that read back: "0.1", "1e-05", "5.0", "nan", "inf"
double python_round(double x, int decimals);       // round(x, decimals)
std::string python_fixed(double x, int decimals);  // f"{x:.4f}"
std::string python_timedelta(double seconds);      // str(timedelta(seconds=int(x))): "0:01:07", "1 day, 2:00:00"

// json.dumps(value, indent=indent, sort_keys=sort_keys). indent < 0: one line with ", " and ": ". Non-ASCII becomes \uXXXX; NaN and
// Infinity as Python's.
std::string python_json(const OrderedJson& value, int indent, bool sort_keys);

}  // namespace loraine
