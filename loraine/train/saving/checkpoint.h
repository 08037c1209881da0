// Folders checkpoint-N that are complete or do not exist: written under a temporary name, flushed, marked with checksums, renamed.
// Also the place in the data. Called by the step loop.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace loraine {

inline constexpr const char* kCheckpointMarker = "loraine_checkpoint.json";

struct Checkpoint {
  std::string path;
  int64_t step = 0;
};
struct DamagedCheckpoint {
  std::string path, reason;
};
struct CheckpointList {
  std::vector<Checkpoint> complete;        // newest (largest step) first
  std::vector<DamagedCheckpoint> damaged;  // no marker (another program's, or cut off), a file missing, changed or of another size
};

std::string begin_checkpoint(const std::string& output_dir, int64_t step);   // an empty folder to write into
std::string finish_checkpoint(const std::string& output_dir, int64_t step);  // output_dir/checkpoint-<step>
void discard_checkpoint(const std::string& output_dir, int64_t step);        // of one that was begun and cannot be finished
CheckpointList find_checkpoints(const std::string& output_dir);              // reads every file to check it; an absent folder has none
std::optional<std::string> checkpoint_damage(const std::string& folder);     // the reason, or nothing when complete
// Keeps the newest `limit` (at least 1) and always `best` (a path, may be empty); limit absent keeps all. Checkpoints past newest_step come
// from an earlier run in the same folder and count as the oldest. Damaged folders are not touched.
void remove_old_checkpoints(const std::string& output_dir, std::optional<int64_t> limit, const std::string& best,
                            int64_t newest_step = INT64_MAX);
// At the end of a run, with save_total_limit 1: the best one alone stays, when it is there.
void remove_checkpoints_but(const std::string& output_dir, const std::string& kept);
// Removes what killed processes left half-written or half-removed; what they were about to put in place, whole, gets there.
void settle_output_dir(const std::string& output_dir);

struct TrainingState {         // training_state.json
  int64_t step = 0;            // optimizer steps done
  int64_t epoch = 0;           // epoch under way, from 0
  int64_t batch_in_epoch = 0;  // micro-batches of it already used
  uint64_t seed = 42;
  std::string data_hash;  // of the encoded data; another one refuses to resume
  double loss_sum = 0;    // of the steps since the last log line, and their number
  int64_t loss_steps = 0;
  double train_seconds = 0;      // spent so far
  std::string scheduler = "{}";  // Schedule::state().dump()
  std::string figures;           // of the objective, since the last log line: LoggedFigures::text()
  std::string objective;         // Objective::state()
};
void write_training_state(const std::string& folder, const TrainingState& state);
TrainingState read_training_state(const std::string& folder);

// Names in an output folder that are no result: what a run writes before its first checkpoint, and what was cut off while it was written.
bool counts_as_nothing(const std::string& name);
// The folder may be absent, empty, hold complete checkpoints (the newest is given back, to resume from) or what a run left that ended
// before its first one; else Error usage, unless `overwrite`. `damaged` gets the newer ones that were passed over.
std::optional<Checkpoint> check_output_dir(const std::string& output_dir, bool overwrite,
                                           std::vector<DamagedCheckpoint>* damaged = nullptr);
// The checkpoints of an earlier run in a folder that is overwritten; those of other programs stay.
void remove_checkpoints(const std::string& output_dir);

}  // namespace loraine
