// `loraine adapter SUBCOMMAND`: tools for saved adapters that need no model. One function for each, with its options described once.
#pragma once
#include <string>
#include <vector>

#include "loraine/core/describe.h"
#include "loraine/core/dtype.h"

namespace loraine {

int run_adapter_list(const std::vector<std::string>& args);
int run_adapter_info(const std::vector<std::string>& args);
int run_adapter_check(const std::vector<std::string>& args);
int run_adapter_merge(const std::vector<std::string>& args);
int run_adapter_diff(const std::vector<std::string>& args);
int run_adapter_resize(const std::vector<std::string>& args);
int run_adapter_extract(const std::vector<std::string>& args);
int run_adapter_convert(const std::vector<std::string>& args);

// Describe the options to a visitor, with their defaults, for help and docs/cli.md.
void describe_adapter_list(const OptionVisitor& visit);
void describe_adapter_info(const OptionVisitor& visit);
void describe_adapter_check(const OptionVisitor& visit);
void describe_adapter_merge(const OptionVisitor& visit);
void describe_adapter_diff(const OptionVisitor& visit);
void describe_adapter_resize(const OptionVisitor& visit);
void describe_adapter_extract(const OptionVisitor& visit);
void describe_adapter_convert(const OptionVisitor& visit);

struct AdapterCommand {
  const char* name;
  const char* places;  // what it takes: "ADAPTER ADAPTER…"
  const char* summary;
  int (*run)(const std::vector<std::string>&);
  void (*describe)(const OptionVisitor&);
};
const std::vector<AdapterCommand>& adapter_commands();
std::string adapter_command_help(const std::string& name);
std::string adapter_reference();  // the part of docs/cli.md

// Shared by several subcommands.
inline constexpr const char* kAdapterTypes[] = {"float32", "float16", "bfloat16"};
Dtype adapter_dtype(const std::string& name);  // of one of them

}  // namespace loraine
