// Opening a model with its adapters and its template, and turning conversations into ids.
#include "loraine/api/loaded_model.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/adapters/peft_files.h"
#include "loraine/api/new_tokens.h"
#include "loraine/core/batch.h"
#include "loraine/generate/engine.h"
#include "loraine/io/hub/hub.h"
#include "loraine/model/attach.h"
#include "loraine/model/finite.h"
#include "loraine/model/gpu/gpu_base.h"
#include "loraine/model/gpu/gpu_support.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/config/named_adapters.h"
#include "loraine/train/gpu/device.h"

namespace loraine {
namespace {

void warn(LoadedModel& loaded, const std::string& text, ErrorKind kind) {
  if (text.empty()) return;
  if (loaded.config.strict) throw Error(kind, text, "correct it, or leave strict out to go on with a warning");
  loaded.warnings.emplace_back(kind, text);
}

Error adapter_without_gpu(const std::string& name, const std::string& lacks) {
  return {ErrorKind::unsupported, fmt::format("device: cuda: adapter {} has {}, which has no GPU code", name, lacks),
          "Answer on the CPU (device: cpu); docs/cuda.md says what the GPU has kernels for."};
}

std::string folder_of(const LoadedModel& loaded, const NamedAdapter& adapter) {
  return find_place(adapter.path, hub_access(loaded.config), HubKind::adapter).path;
}

// The template of the base and of every adapter that is named, before any weight is read: what is wrong with it costs nobody a wait.
void open_formats(LoadedModel& loaded, const LoadOptionsForAnswers& options) {
  const std::vector<NamedAdapter> adapters = named_adapters(loaded.config.adapter_name_or_path);
  TemplateChoice base = choose_template(loaded.config, loaded.files, std::string());
  loaded.one_template = options.one_template;
  if (options.one_template) {
    std::vector<std::string> folders;
    for (const NamedAdapter& adapter : adapters) folders.push_back(folder_of(loaded, adapter));
    base = choose_template(loaded.config, loaded.files, folders);
    loaded.config.template_name = base.name;
    loaded.config.default_system = base.default_system;
    loaded.config.enable_thinking = base.enable_thinking;
    loaded.config.tool_format = base.tool_format;
    loaded.config.preserve_thinking = base.preserve_thinking;
    if (base.jinja) loaded.text.chat_template = open_chat_template(loaded.files, *base.jinja, base.folder + " (chat template)");
    warn(loaded, base.warning, ErrorKind::usage);
  } else if (!has_template(base, loaded.text) && !adapters.empty()) {  // a base without a template talks as its first adapter does
    base = choose_template(loaded.config, loaded.files, folder_of(loaded, adapters.front()));
  }
  if (options.needs_text && !has_template(base, loaded.text)) throw no_chat_template(loaded.files);
  if (const auto error = unfit_template(base, loaded.text)) {  // an adapter may know it all the same, and figures may be wanted of it
    if (adapters.empty() && !options.one_template) throw *error;
    warn(loaded, error->what() + std::string(kSpelled), error->kind);
  }
  loaded.format = open_chat_format(base, loaded.files, loaded.text);
}

void load_adapters(LoadedModel& loaded) {
  const std::vector<NamedAdapter> names = named_adapters(loaded.config.adapter_name_or_path);
  for (const NamedAdapter& adapter : names) loaded.add_adapter(adapter.name, adapter.path);
  std::vector<const AdapterSet*> on;
  for (const NamedAdapter& adapter : adapters_on(names)) on.push_back(loaded.find(adapter.name));
  if (on.size() == 1) loaded.adapter = on.front();
  if (on.size() < 2) return;
  AdapterSet& all = loaded.adapters["all"] = combine_adapters(on, loaded.model.sites());
  all.name = "all";
  loaded.formats["all"] = loaded.formats.at(on.front()->name);
  for (const AdapterSet* set : on)
    if (!loaded.formats.at(set->name).choice.same_as(loaded.formats["all"].choice))
      warn(loaded,
           fmt::format("the adapters that are on together were trained with different templates; {} counts: {}", on.front()->name,
                       loaded.formats["all"].choice.text()),
           ErrorKind::usage);
  loaded.adapter = &all;
}

// The base moves to the GPU, unless an adapter has what there is no code for.
void move_to_gpu(LoadedModel& loaded, const DeviceChoice& device) {
  if (device.device != Device::cuda) return;
  for (const auto& [name, set] : loaded.adapters) {
    const std::string lacks = gpu_lacks(set, false);
    if (lacks.empty()) continue;
    if (loaded.config.device == "cuda") throw adapter_without_gpu(name, lacks);
    loaded.places.back() = fmt::format("device: the CPU, since adapter {} has {}, which has no GPU code", name, lacks);
    return;
  }
  check_gpu_room(GpuModel::shapes(loaded.model).bytes(), "a smaller base, or infer_dtype: bfloat16, needs less");
  loaded.gpu = std::make_unique<GpuBase>(loaded.model);
}

}  // namespace

LoadedModel::LoadedModel() = default;
LoadedModel::~LoadedModel() = default;

ChatFormat open_adapter_format(LoadedModel& loaded, const std::string& folder) {
  const TemplateChoice choice = choose_template(loaded.config, loaded.files, folder);
  warn(loaded, choice.warning, ErrorKind::usage);
  return open_chat_format(choice, loaded.files, loaded.text);
}

const AdapterSet* LoadedModel::find(const std::string& name) const {
  if (name == "base") return nullptr;
  if (auto it = adapters.find(name); it != adapters.end()) return &it->second;
  throw Error(ErrorKind::usage, "no adapter is called '" + name + "'",
              adapter_names.empty() ? "none is loaded; give them as adapter_name_or_path: name=path,other=path"
                                    : fmt::format("there are: base, {}", fmt::join(adapter_names, ", ")));
}

AdapterSet& LoadedModel::add_adapter(const std::string& name, const std::string& given) {
  if (name.empty() || name == "all" || name == "base" || adapters.count(name))
    throw Error(ErrorKind::usage, "adapter_name_or_path: the name '" + name + "' is empty, taken, or means all of them or none",
                "give each a name of its own: name=path,other=path");
  const auto [path, note] = find_place(given, hub_access(config), HubKind::adapter);
  if (!note.empty()) places.push_back(note);
  const bool own_base = quantises_base(read_lora_config(path));
  if (!base_is_for.empty() || (own_base && !adapters.empty()))
    throw Error(
        ErrorKind::usage,
        fmt::format("{} cannot be loaded beside {}: LoftQ's adapter {} runs over a base of its own, which it quantises as at its start",
                    path, base_is_for.empty() ? fmt::format("{}", fmt::join(adapter_names, ", ")) : base_is_for,
                    own_base ? path : base_is_for),
        "open the model with that adapter alone, or merge it with loraine export");
  if (own_base) base_is_for = path;
  LoraConfig lora;
  AdapterSet set = loraine::load_adapter(model, path, &lora);
  set.name = name;
  if (const std::string lacks = gpu ? gpu_lacks(set, false) : ""; !lacks.empty()) throw adapter_without_gpu(name, lacks);
  for (const auto& [kind, text] : adapter_warnings(lora, path, files)) warn(*this, text, kind);
  formats[name] = one_template ? format : open_adapter_format(*this, path);
  adapter_names.push_back(name);
  folders[name] = path;
  return adapters[name] = std::move(set);
}

void LoadedModel::remove_adapter(const std::string& name) {
  const AdapterSet* set = find(name);
  if (!set) throw Error(ErrorKind::usage, "the base cannot be unloaded");
  if (adapter == set) adapter = nullptr;
  std::erase(adapter_names, name);
  adapters.erase(name);
  formats.erase(name);
  folders.erase(name);
}

const ChatFormat& LoadedModel::format_of(const AdapterSet* set) const {
  const auto found = set ? formats.find(set->name) : formats.end();
  return found == formats.end() ? format : found->second;
}

int64_t LoadedModel::widest_adapter() const {
  int64_t widest = 1;
  for (const auto& [name, set] : adapters) widest = std::max(widest, rank_columns(set));
  return widest;
}

std::vector<int32_t> LoadedModel::prompt_ids(const Conversation& conversation, const AdapterSet* set) const {
  return format_of(set).prompt_ids(*text.tokenizer, conversation, config.split_special_tokens);
}

Example LoadedModel::answered(const Conversation& conversation, const std::string& answer, const AdapterSet* set) const {
  return format_of(set).answered(*text.tokenizer, conversation, answer, config.split_special_tokens);
}

std::unique_ptr<LoadedModel> load_for_answers(const TrainConfig& config, const LoadOptionsForAnswers& options) {
  if (!options.gpu && config.device == "cuda")
    throw Error(ErrorKind::unsupported, "device: cuda: what is asked for here has no GPU code", "Leave it out.");
  auto loaded = std::make_unique<LoadedModel>();
  loaded->config = config;
  loaded->files = open_model_files(config.model_name_or_path, hub_access(config));
  if (!loaded->files.place_note.empty()) loaded->places.push_back(loaded->files.place_note);
  if (const std::string text = stretch_positions(loaded->files, config, false); !text.empty()) loaded->places.push_back(text);
  const DeviceChoice device = options.gpu ? choose_device_of_answers(config, loaded->files) : DeviceChoice{};
  loaded->text = open_text(loaded->files);
  if (const std::string text = add_new_tokens(loaded->files, loaded->text, config); !text.empty()) loaded->places.push_back(text);
  if (options.needs_text && !loaded->text.tokenizer) throw no_tokenizer(loaded->files);
  if (loaded->text.tokenizer) warn(*loaded, loaded->files.tokenizer_note, ErrorKind::usage);
  open_formats(*loaded, options);
  warn(*loaded, quantised_already(loaded->files, config), ErrorKind::usage);
  warn(*loaded, not_computed_in(config), ErrorKind::usage);
  loaded->model = load_model(loaded->files, answer_load_options(config));
  warn(*loaded, untied_text(loaded->model), ErrorKind::bad_data);
  const bool int8 = config.frozen_matmul == "int8";
  loaded->model.read_once = int8;  // the layers are read here, and once more to be rounded
  warn(*loaded, not_finite_text(loaded->model), ErrorKind::numeric);
  loaded->model.read_once = false;
  if (const int64_t packed = int8 ? layers_to_integers(loaded->model) : 0; packed > 0)
    loaded->places.push_back(fmt::format(
        "frozen_matmul: int8: {} packed weights stay as they lie in the file; activations are rounded to 8 bits by blocks of 32", packed));
  load_adapters(*loaded);
  loaded->eos_ids = eos_token_ids(loaded->files, loaded->model.config);
  if (!device.text.empty()) loaded->places.push_back(device.text);
  move_to_gpu(*loaded, device);
  return loaded;
}

GenerateOptions generate_options(const LoadedModel& loaded, const AdapterSet* set) { return generate_options(loaded, set, loaded.config); }

GenerateOptions generate_options(const LoadedModel& loaded, const AdapterSet* set, const TrainConfig& c) {
  std::vector<int32_t> stop_ids = loaded.eos_ids;
  const std::vector<int32_t>& own = loaded.format_of(set).stop_ids;
  stop_ids.insert(stop_ids.end(), own.begin(), own.end());
  return {.max_new_tokens = c.max_new_tokens,
          .do_sample = c.do_sample,
          .temperature = c.temperature,
          .top_p = c.top_p,
          .repetition_penalty = c.repetition_penalty,
          .top_k = c.top_k,
          .stop_ids = std::move(stop_ids),
          .seed = static_cast<uint64_t>(c.seed),
          .num_beams = c.num_beams,
          .length_penalty = c.length_penalty};
}

}  // namespace loraine
