// loraine export: merges an adapter into its base and checks the result.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loraine/adapters/peft_files.h"
#include "loraine/cli/arguments.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/export/merge.h"
#include "loraine/model/load.h"

namespace loraine {

int run_export(const std::vector<std::string>& args) {
  TrainConfig config;
  if (!read_config(args, "export", config)) return 0;
  namespace fs = std::filesystem;
  std::string folder = config.export_dir.value_or("");
  std::error_code ignored;
  if (fs::equivalent(folder, config.model_name_or_path, ignored))
    throw Error(ErrorKind::usage, "export_dir " + folder + " is the base model itself", "choose another folder");
  if (fs::exists(folder, ignored) && !fs::is_empty(folder, ignored) && !config.overwrite_output_dir)
    throw Error(ErrorKind::usage, "export_dir " + folder + " is not an empty folder", "choose another, or set overwrite_output_dir: true");
  ModelFiles files = open_model_files(config.model_name_or_path);
  Model model = load_model(files);
  std::vector<std::string> adapters = split_list(config.adapter_name_or_path);
  if (adapters.size() > 1)
    throw Error(ErrorKind::unsupported, "export merges one adapter at a time for now",
                "export with the first, then with the second onto the result");
  AdapterSet set;
  if (!adapters.empty()) set = load_adapter(model.sites(), adapters[0], false);
  const AdapterSet* adapter = adapters.empty() ? nullptr : &set;
  MergeReport report = merge_to_folder(model, files, adapter, folder, config.export_size * 1000000000);
  check_merge(model, adapter, folder, report);
  bool narrow = model.embedding.dtype != Dtype::F32;
  double tolerance = (narrow ? 5e-2 : 1e-3) * std::max(1.0, report.largest_logit);
  print_stderr(fmt::format("merged {} of {} tensors into {} ({} file{})\n", report.merged, report.tensors, folder, report.shards,
                           report.shards == 1 ? "" : "s"));
  print_stderr(fmt::format("check: largest difference of logits, merged against base + adapter: {:.3g} (tolerance {:.3g})\n",
                           report.largest_difference, tolerance));
  if (!(report.largest_difference <= tolerance))
    throw Error(ErrorKind::numeric,
                fmt::format("{}: the merged model differs from base + adapter by {:.3g} in its logits, more than {:.3g}", folder,
                            report.largest_difference, tolerance),
                "do not use the folder");
  return 0;
}

}  // namespace loraine
