// Models, adapters and data sets that are given by their id, like org/name: found in the caches of this machine, which are laid out as
// huggingface_hub and modelscope lay out theirs, else downloaded into them. Called by open_model_files, and wherever adapters and data sets
// are named. docs/hub.md.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace loraine {

enum class Hub : uint8_t { hugging_face, modelscope };
enum class HubKind : uint8_t { model, adapter, dataset };

// What settings say; what they leave empty is looked for in the environment. A token goes to the hub's own address alone, and into no text.
struct HubAccess {
  std::string revision = "main";  // a branch, a tag or a commit
  std::string cache_dir;
  std::string token, token_key = "hf_hub_token";  // Hugging Face's, and the key that it was given by
  std::string modelscope_token;
  std::optional<Hub> hub;  // this one alone; none: preferred_hub() is asked, and both caches count
  std::string subfolder;   // within an adapter's folder or repository
};

struct FoundPlace {
  std::string path;  // a folder; of a repository of one GGUF file, that file
  std::string note;  // "org/name: PATH in the local cache, revision abc123"; empty where `name` was a path
};

// `name` as a path where something lies there, else as an id. A whole snapshot in a cache is taken as it is, unless Hugging Face's hub says
// that its branch moved on; else what is missing is downloaded from Hugging Face, or from ModelScope with USE_MODELSCOPE_HUB. With
// HF_HUB_OFFLINE no hub is asked. Throws bad_data: what was
// looked for and where, an id that the hub does not have or does not give, a file whose bytes are not those that the hub lists; io: a hub
// that cannot be reached or fails, a disk that is full.
FoundPlace find_place(const std::string& name, const HubAccess& access, HubKind kind);

// The same for an id alone. None for what is no id, and where offline no cache has it.
std::optional<FoundPlace> find_repository(const std::string& id, const HubAccess& access, HubKind kind);

Hub preferred_hub();  // USE_MODELSCOPE_HUB

bool is_plain_revision(const std::string& revision);  // that may become part of a path
bool is_token(const std::string& text);               // of letters that a header may hold, not too long

// Whether a hub would take it for a repository's name: org/name or name.
bool is_hub_id(const std::string& name);

// What is shown while files come and go. For the whole process, set once by whoever has a screen; nothing is shown without.
struct TransferState {
  std::string file;
  uint64_t done = 0, total = 0;
  double bytes_per_second = 0;
  bool finished = false;
  bool upload = false;
};
struct TransferScreen {
  std::function<void(const std::string&)> message;
  std::function<void(const TransferState&)> progress;
};
void set_transfer_screen(TransferScreen screen);
const TransferScreen& transfer_screen();

// While it lives, what is under way ends with Stopped (core/stopped.h) soon after `stop` became true. One at a time.
class StopsTransfers {
 public:
  explicit StopsTransfers(const std::atomic<bool>& stop);
  ~StopsTransfers();
  StopsTransfers(const StopsTransfers&) = delete;
  StopsTransfers& operator=(const StopsTransfers&) = delete;
};
bool transfers_stopped();

}  // namespace loraine
