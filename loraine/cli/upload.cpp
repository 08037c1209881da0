// `loraine upload DIR`: what a run or an export left, to a hub.
#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/core/error.h"
#include "loraine/train/saving/push.h"

namespace loraine {

int run_upload(const std::vector<std::string>& args) {
  const bool named = !args.empty() && !args[0].starts_with("-") && args[0].find('=') == std::string::npos;
  TrainConfig config;
  if (!read_config({args.begin() + (named ? 1 : 0), args.end()}, "upload", config)) return 0;
  std::error_code failed;
  if (!named || !std::filesystem::is_directory(args[0], failed))
    throw Error(ErrorKind::usage, named ? args[0] + ": no such folder" : "upload takes a folder first",
                "loraine upload DIR --hub_model_id org/name");
  if (pushed_files(args[0]).empty()) throw Error(ErrorKind::bad_data, args[0] + ": holds nothing to upload");
  print_stderr(push(prepare_push(config, config.hub_model_id.value_or(""), args[0])) + "\n");
  return 0;
}

}  // namespace loraine
