// Models, adapters and data sets that other tools fetched from a hub: ids like org/name to folders in their caches on this machine. Nothing
// is fetched. Called by open_model_files, and wherever adapters and data sets are named.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace loraine {

enum class HubKind : uint8_t { model, adapter, dataset };

struct FoundPlace {
  std::string path;  // a folder; of a repository of one GGUF file, that file
  std::string note;  // "org/name: PATH in the local cache, revision abc123"; empty where `name` was a path
};

// `name` as a path where something lies there, else as an id in the caches: Hugging Face's (HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else
// hub in HF_HOME, else huggingface/hub in XDG_CACHE_HOME or ~/.cache) and ModelScope's (MODELSCOPE_CACHE, else ~/.cache/modelscope), which
// comes first with USE_MODELSCOPE_HUB. revision: a branch, a tag or a commit. Throws bad_data: what was looked for and where, with the
// command that fetches it; an incomplete snapshot with the files that are missing.
FoundPlace find_place(const std::string& name, const std::string& revision, HubKind kind);

// The same for an id alone; none where no cache has it.
std::optional<FoundPlace> find_in_caches(const std::string& id, const std::string& revision, HubKind kind);

// Whether a hub would take it for a repository's name: org/name or name.
bool is_hub_id(const std::string& name);

}  // namespace loraine
