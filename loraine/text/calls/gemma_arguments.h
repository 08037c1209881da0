// Gemma 4's spelling of arguments. Called by read_call.cpp and by data/tools.
#pragma once
#include <string>

namespace loraine {

// {key:<|"|>text<|"|>,other:3} as JSON: texts in quotes, bare keys too. What is neither stays as it is.
std::string gemma_json(const std::string& text);

}  // namespace loraine
