// loraine adapter resize, extract and convert: what writes one adapter out of one thing.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "loraine/adapters/convert/other_formats.h"
#include "loraine/adapters/decompose/extract.h"
#include "loraine/adapters/decompose/resize.h"
#include "loraine/cli/adapter/adapter.h"
#include "loraine/cli/adapter/words.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/progress.h"
#include "loraine/core/error.h"
#include "loraine/export/gguf_adapter.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/hub/hub.h"
#include "loraine/io/tensors/turned_source.h"
#include "loraine/model/attach.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

struct ResizeSettings {
  std::string output_dir, dtype = "float32";
  std::optional<int64_t> rank;
  std::optional<double> energy;
  bool uniform = false, json = false, overwrite_output_dir = false;
};
std::vector<Option> resize_options(ResizeSettings& s) {
  const std::string group = "adapter resize";
  return {
      {"output_dir", group, &s.output_dir, "where the new adapter goes"},
      {"rank", group, &s.rank, "the new rank; with energy the most that a module gets", {.lowest = 1, .highest = 65536}},
      {"energy",
       group,
       &s.energy,
       "instead: the share of ‖ΔW‖² that each module keeps, with a rank of its own",
       {.lowest = 0, .highest = 1, .above_lowest = true}},
      {"uniform", group, &s.uniform, "with energy: zeros up to the largest rank, for programs that know one rank"},
      {"dtype", group, &s.dtype, "type of the tensors", {.choices = {std::begin(kAdapterTypes), std::end(kAdapterTypes)}}},
      {"json", group, &s.json, "the energies as JSON"},
      {"overwrite_output_dir", group, &s.overwrite_output_dir, "write over an adapter that is there"},
  };
}

struct ExtractSettings {
  std::string output_dir, dtype = "float32", modules_to_save;
  std::optional<int64_t> rank;
  std::optional<double> energy;
  bool uniform = false, json = false, overwrite_output_dir = false;
};
std::vector<Option> extract_options(ExtractSettings& s) {
  const std::string group = "adapter extract";
  return {
      {"output_dir", group, &s.output_dir, "where the adapter goes"},
      {"rank",
       group,
       &s.rank,
       "the rank of every module; with energy the most that a module gets (512 without)",
       {.lowest = 1, .highest = 65536}},
      {"energy",
       group,
       &s.energy,
       "instead: the share of ‖ΔW‖² that each module keeps, with a rank of its own",
       {.lowest = 0, .highest = 1, .above_lowest = true}},
      {"uniform", group, &s.uniform, "with energy: zeros up to the largest rank"},
      {"modules_to_save", group, &s.modules_to_save, "modules whose tensors are stored whole: embed_tokens,lm_head", {.comma_list = true}},
      {"dtype", group, &s.dtype, "type of the low-rank tensors", {.choices = {std::begin(kAdapterTypes), std::end(kAdapterTypes)}}},
      {"json", group, &s.json, "the energies as JSON"},
      {"overwrite_output_dir", group, &s.overwrite_output_dir, "write over an adapter that is there"},
  };
}

struct ConvertSettings {
  std::string output, to = "peft", model_name_or_path, prefix = "lora_te_", gguf_type = "f32";
  bool overwrite_output_dir = false;
};
std::vector<Option> convert_options(ConvertSettings& s) {
  const std::string group = "adapter convert";
  return {
      {"output", group, &s.output, "what is written: a folder (peft, mlx), a .gguf (gguf), a .safetensors (kohya)"},
      {"to", group, &s.to, "the form to write; the given one is recognised", {.choices = {"peft", "mlx", "gguf", "kohya"}}},
      {"model_name_or_path", group, &s.model_name_or_path,
       "the base, where names or rows are told by it alone: to gguf, from kohya, from gguf of Llama-like models"},
      {"prefix", group, &s.prefix, "to kohya: what its names begin with"},
      {"gguf_type", group, &s.gguf_type, "to gguf: type of the matrices", {.choices = {"f32", "f16", "bf16", "q8_0"}}},
      {"overwrite_output_dir", group, &s.overwrite_output_dir, "write over what is there"},
  };
}

std::function<void(int64_t, int64_t)> moving(Progress& progress) {
  return [&progress](int64_t step, int64_t total) {
    progress.update({.step = step, .total = total, .loss = {}, .learning_rate = {}, .tokens_per_second = {}, .memory_bytes = {}});
  };
}

void out_text(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// A line for each module: ranks, size, and the share that is kept; the shares of all together at the end.
void show_energies(const std::vector<KeptEnergy>& energies, bool json) {
  double all = 0, kept = 0;
  for (const KeptEnergy& e : energies) all += e.norm * e.norm, kept += e.kept * e.norm * e.norm;
  const double share = all > 0 ? kept / all : 1;
  if (json) {
    Value modules = Value::object();
    for (const KeptEnergy& e : energies) {
      modules[e.path] = {{"rank", e.after}, {"norm", e.norm}, {"energy_kept", e.kept}};
      if (e.before > 0) modules[e.path]["former_rank"] = e.before;
    }
    out_text(Value({{"energy_kept", share}, {"modules", modules}}).dump(2) + "\n");
    return;
  }
  std::vector<std::vector<std::string>> rows = {{"module", "rank", "‖ΔW‖", "energy kept"}};
  for (const KeptEnergy& e : energies)
    rows.push_back({e.path, e.before > 0 ? fmt::format("{} → {}", e.before, e.after) : std::to_string(e.after),
                    fmt::format("{:.4g}", e.norm), fmt::format("{:.2f} %", 100 * e.kept)});
  rows.push_back({"all", "", fmt::format("{:.4g}", std::sqrt(all)), fmt::format("{:.2f} %", 100 * share)});
  out_text(table_text("", rows));
}

// The linear layers of the model with the names of their tensors in its files.
std::vector<LayerTensor> linear_layers(const Model& model) {
  std::vector<LayerTensor> out;
  for (const Weight* site : model.sites())
    for (const WeightPart& part : site->parts) {
      if (site->bare || (site->is_head && model.config.tie_word_embeddings && !model.untied_by_file)) continue;
      out.push_back({part.name, part.stored + ".weight"});
    }
  return out;
}

std::shared_ptr<TensorSource> opened(const std::string& name, const ModelConfig& config) {
  ModelFiles files = open_model_files(name);
  return config.names.turned.empty() ? files.tensors : turned_source(files.tensors, config.names.turned);
}

void tell_rest(const ExtractedAdapter& made) {
  if (made.rest.empty()) return;
  std::string text =
      fmt::format("warning: {} tensors differ too and are not in the adapter, which so does not give the tuned model: ", made.rest.size());
  for (size_t i = 0; i < made.rest.size() && i < 5; ++i)
    text += fmt::format("{}{} (by {:.2g} of its size)", i ? ", " : "", made.rest[i].name, made.rest[i].apart);
  print_stderr(text + (made.rest.size() > 5 ? ", …" : "") + "\nhint: --modules_to_save stores modules whole: embed_tokens,lm_head,norm\n");
}

LowRankSet read_any(const std::string& path, AdapterFormat format, const ConvertSettings& s) {
  if (format == AdapterFormat::peft) return read_peft_set(path);
  if (format == AdapterFormat::mlx) return read_mlx(path);
  if (format == AdapterFormat::gguf) {
    std::optional<GgufHeads> heads;
    if (!s.model_name_or_path.empty()) {
      const Json config = open_text_files(s.model_name_or_path, {}).config;
      const Json& text = config.contains("text_config") ? config["text_config"] : config;
      const int64_t count = text.value("num_attention_heads", int64_t{0});
      heads = GgufHeads{count, text.value("num_key_value_heads", count)};
    }
    return read_gguf_adapter(path, heads);
  }
  std::vector<std::string> paths;
  if (!s.model_name_or_path.empty()) {
    ModelFiles files = open_model_files(s.model_name_or_path);
    for (const LayerTensor& layer : linear_layers(load_model(files))) paths.push_back(layer.path);
  }
  return read_kohya(path, paths);
}

// In a folder of its own beside the file: export reads adapters from folders.
void write_as_gguf(const LowRankSet& set, const ConvertSettings& s, const std::string& name) {
  if (s.model_name_or_path.empty())
    throw Error(ErrorKind::usage, "to gguf: the file has the base's own order of rows, and no base is given",
                "give it: --model_name_or_path DIR");
  const std::filesystem::path place = std::filesystem::absolute(s.output).lexically_normal();
  if (!s.output.ends_with(".gguf"))
    throw Error(ErrorKind::usage, "output is " + s.output + ", and to gguf writes a file", "--output NAME.gguf");
  if (!s.overwrite_output_dir && std::filesystem::exists(place))
    throw Error(ErrorKind::usage, s.output + ": is there already", "choose another name, or add --overwrite_output_dir");
  StagedFiles staged(place.parent_path().string());
  const std::string folder = staged.path() + "/." + place.filename().string() + ".adapter";
  WrittenLowRank written;
  written.modules = set.modules;
  written.base = set.base;
  write_low_rank(written, folder, true);
  ModelFiles files = open_model_files(s.model_name_or_path);
  print_place(files.place_note);
  Model model = load_model(files);
  const AdapterSet adapter = load_adapter(model, folder);
  const GgufAdapterReport report =
      write_gguf_adapter(model, files, adapter, gguf_recipe(s.gguf_type), name, set.base.empty() ? s.model_name_or_path : set.base,
                         staged.path() + "/" + place.filename().string());
  std::filesystem::remove_all(folder);
  staged.commit();
  print_stderr(fmt::format("check: {} pairs of A and B read back: at most {:.2g} of a matrix's size from the adapter's\n", report.matrices,
                           report.worst));
}

}  // namespace

Dtype adapter_dtype(const std::string& name) { return name == "float16" ? Dtype::F16 : name == "bfloat16" ? Dtype::BF16 : Dtype::F32; }

void describe_adapter_resize(const OptionVisitor& visit) {
  static ResizeSettings settings;  // the options point into it
  for (const Option& option : resize_options(settings)) visit(option);
}
void describe_adapter_extract(const OptionVisitor& visit) {
  static ExtractSettings settings;  // the options point into it
  for (const Option& option : extract_options(settings)) visit(option);
}
void describe_adapter_convert(const OptionVisitor& visit) {
  static ConvertSettings settings;  // the options point into it
  for (const Option& option : convert_options(settings)) visit(option);
}

int run_adapter_resize(const std::vector<std::string>& args) {
  ResizeSettings s;
  const auto places = read_adapter_words(args, resize_options(s));
  if (!places) return out_text(adapter_command_help("resize")), 0;
  if (places->size() != 1)
    throw Error(ErrorKind::usage, fmt::format("{} adapters are given, expected one", places->size()),
                "loraine adapter resize ADAPTER --rank 8 --output_dir DIR");
  check_free(s.output_dir, s.overwrite_output_dir);
  Progress progress("resizing modules");
  ResizedAdapter made = resize_adapter(adapter_at((*places)[0]), {s.rank, s.energy}, s.uniform, moving(progress));
  progress.finish();
  made.written.dtype = adapter_dtype(s.dtype);
  made.written.story = fmt::format("`{}` at another rank, by `loraine adapter resize` ({}).", (*places)[0],
                                   s.energy ? fmt::format("energy {}", *s.energy) : fmt::format("rank {}", *s.rank));
  write_low_rank(made.written, s.output_dir, s.overwrite_output_dir);
  show_energies(made.energies, s.json);
  print_stderr("wrote " + s.output_dir + "\n");
  return 0;
}

int run_adapter_extract(const std::vector<std::string>& args) {
  ExtractSettings s;
  const auto places = read_adapter_words(args, extract_options(s));
  if (!places) return out_text(adapter_command_help("extract")), 0;
  if (places->size() != 2)
    throw Error(ErrorKind::usage, fmt::format("{} models are given, expected two", places->size()),
                "loraine adapter extract BASE TUNED --rank 16 --output_dir DIR");
  check_free(s.output_dir, s.overwrite_output_dir);
  ExtractOptions options{{s.rank, s.energy}, s.uniform, names_of(s.modules_to_save), 512};
  check_choice(options.choice);
  ModelFiles files = open_model_files((*places)[0]);
  print_place(files.place_note);
  const Model model = load_model(files);
  if (!options.modules_to_save.empty() && !model.config.names.stored.empty())
    throw Error(ErrorKind::unsupported,
                fmt::format("modules_to_save: {} has other names in its files than in memory ({})", (*places)[0], model.config.model_type),
                "leave it out");
  const std::shared_ptr<TensorSource> base = opened((*places)[0], model.config), tuned = opened((*places)[1], model.config);
  Progress progress("extracting modules");
  ExtractedAdapter made = extract_adapter(*base, *tuned, linear_layers(model), options, moving(progress));
  progress.finish();
  made.written.base = (*places)[0];
  made.written.dtype = adapter_dtype(s.dtype);
  made.written.story = fmt::format("What `{}` has over `{}`, by `loraine adapter extract`.", (*places)[1], (*places)[0]);
  write_low_rank(made.written, s.output_dir, s.overwrite_output_dir);
  show_energies(made.energies, s.json);
  tell_rest(made);
  print_stderr(fmt::format("wrote {}: {} modules, {} equal in both models{}\n", s.output_dir, made.energies.size(), made.equal.size(),
                           made.whole.empty() ? "" : fmt::format(", {} tensors whole", made.whole.size())));
  return 0;
}

int run_adapter_convert(const std::vector<std::string>& args) {
  ConvertSettings s;
  const auto places = read_adapter_words(args, convert_options(s));
  if (!places) return out_text(adapter_command_help("convert")), 0;
  if (places->size() != 1)
    throw Error(ErrorKind::usage, fmt::format("{} adapters are given, expected one", places->size()),
                "loraine adapter convert ADAPTER --to mlx --output DIR");
  if (s.output.empty()) throw Error(ErrorKind::usage, "output is not given", "--output DIR, or a file for gguf and kohya");
  const bool file = (*places)[0].ends_with(".gguf") || (*places)[0].ends_with(".safetensors");
  const std::string path = file ? (*places)[0] : adapter_at((*places)[0]);
  const AdapterFormat format = format_of_adapter(path);
  if (name_of(format) == s.to) throw Error(ErrorKind::usage, fmt::format("{}: is {} already", path, s.to), "choose another form with --to");
  LowRankSet set = read_any(path, format, s);
  if (set.base.empty()) set.base = s.model_name_or_path;
  if (s.to == "mlx") write_mlx(set, s.output, s.overwrite_output_dir);
  else if (s.to == "gguf") write_as_gguf(set, s, std::filesystem::path(path).filename().string());
  else if (s.to == "kohya") write_kohya(set, s.output, s.prefix, s.overwrite_output_dir);
  else {
    WrittenLowRank written;
    written.modules = std::move(set.modules);
    written.base = set.base;
    written.story = fmt::format("`{}` ({}), by `loraine adapter convert`.", (*places)[0], name_of(format));
    write_low_rank(written, s.output, s.overwrite_output_dir);
  }
  print_stderr(fmt::format("wrote {}\n", s.output));
  return 0;
}

}  // namespace loraine
