// A model opened to be asked: weights, text files, template, adapters by name. Used by ChatModel, chat and eval.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/api/chat_format.h"
#include "loraine/api/open_text.h"
#include "loraine/core/error.h"
#include "loraine/generate/engine.h"
#include "loraine/model/model.h"
#include "loraine/train/config/config.h"

namespace loraine {

struct GpuBase;

struct LoadedModel {
  LoadedModel();
  ~LoadedModel();
  TrainConfig config;
  ModelFiles files;
  ModelText text;
  Model model;
  std::map<std::string, AdapterSet> adapters;
  std::vector<std::string> adapter_names;      // in the order given
  const AdapterSet* adapter = nullptr;         // the one that is on; nullptr: the base
  ChatFormat format;                           // of the base
  std::map<std::string, ChatFormat> formats;   // of the adapters, by their names
  std::map<std::string, std::string> folders;  // where they lie; not of those that are on together
  bool one_template = false;                   // the base's is everyone's
  std::vector<int32_t> eos_ids;                // what ends an answer by config.json and generation_config.json
  std::string base_is_for;                     // the LoftQ adapter that the base was quantised for: it fits no other
  std::vector<std::pair<ErrorKind, std::string>> warnings;
  std::vector<std::string> places;  // of ids that were found in a local cache: where
  std::unique_ptr<GpuBase> gpu;     // the base there, where answers are computed on a GPU

  const AdapterSet* find(const std::string& name) const;                       // "base": nullptr; usage with the names there are
  AdapterSet& add_adapter(const std::string& name, const std::string& given);  // usage when the name is taken, or beside LoftQ's
  void remove_adapter(const std::string& name);                                // the base is on when it was the one that is on
  int64_t widest_adapter() const;                                              // columns of its A at one site, for the engine
  const ChatFormat& format_of(const AdapterSet* set) const;                    // nullptr: of the base
  // Of a conversation that ends with a question, as the adapter (nullptr: the base) was trained.
  std::vector<int32_t> prompt_ids(const Conversation& conversation, const AdapterSet* set) const;
  Example answered(const Conversation& conversation, const std::string& answer, const AdapterSet* set) const;  // the answer is labelled
};

// Reads config.model_name_or_path, template, adapter_name_or_path. A comma list of plain paths is on together, as if merged in turn (name
// `all`, each can also be chosen alone); of name=path,other=path the first is on. With strict a warning is an error.
// A conversation is written as each adapter was trained (api/chat_format.h). one_template: for the base and all adapters the same, which
// then is config.template_name and text.chat_template too. needs_text: a tokenizer and a template (named, or the model's own) must be
// there.
// gpu: whoever asks has GPU code, and config.device counts; else cuda is refused.
struct LoadOptionsForAnswers {
  bool needs_text = true, one_template = false, gpu = false;
};
std::unique_ptr<LoadedModel> load_for_answers(const TrainConfig& config, const LoadOptionsForAnswers& options = {});

// How the adapter in a folder was trained to be talked to; warnings are added to loaded.warnings. The tokenizer may get its tokens: nothing
// else may use it meanwhile.
ChatFormat open_adapter_format(LoadedModel& loaded, const std::string& folder);

// What an answer with this adapter (nullptr: the base) ends at, and the settings: loaded.config, or those of one call.
GenerateOptions generate_options(const LoadedModel& loaded, const AdapterSet* set);
GenerateOptions generate_options(const LoadedModel& loaded, const AdapterSet* set, const TrainConfig& asked);

}  // namespace loraine
