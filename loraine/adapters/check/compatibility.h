// Which programs load a saved adapter, and why others do not: by what its config and its tensors say, and by rules that were read in those
// programs' sources; each rule is of the version that it names. Called by loraine adapter check.
#pragma once
#include <string>
#include <vector>

#include "loraine/adapters/stored/facts.h"

namespace loraine {

enum class LoadVerdict : uint8_t {
  loads,
  with_option,  // where the program is started in a certain way
  differs,      // it loads and computes something else than PEFT
  refuses
};
const char* verdict_text(LoadVerdict verdict);  // "loads", "loads with an option", "computes something else", "refuses"

struct ProgramVerdict {
  std::string program, version;
  LoadVerdict verdict = LoadVerdict::loads;
  std::vector<std::string> reasons;  // what decides it, the gravest first
  std::string option;                // of with_option: what to start it with
};

// The programs' names as --for takes them: loraine, peft, vllm, sglang, llama.cpp, mlx-lm.
const std::vector<std::string>& checked_programs();
// All of them, or those of `programs`; usage for an unknown one.
std::vector<ProgramVerdict> check_compatibility(const AdapterFacts& facts, const std::vector<std::string>& programs = {});

}  // namespace loraine
