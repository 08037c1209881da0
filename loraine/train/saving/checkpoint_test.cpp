// Checkpoints: complete or absent, damage is seen and named, the best is kept, states come back bit for bit, one process per folder.
#include "loraine/train/saving/checkpoint.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/saving/output_lock.h"

namespace loraine::checkpoint_test {
namespace {

namespace fs = std::filesystem;

std::string fresh_folder() {
  const std::string path = testing::TempDir() + "/loraine_checkpoint";
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::string save(const std::string& folder, int64_t step, const std::string& content = "weights") {
  const std::string partial = begin_checkpoint(folder, step);
  write_file(partial + "/adapter_model.safetensors", content);
  fs::create_directories(partial + "/more");
  write_file(partial + "/more/empty.txt", "");
  return finish_checkpoint(folder, step);
}

std::vector<int64_t> steps(const CheckpointList& list) {
  std::vector<int64_t> out;
  for (const Checkpoint& c : list.complete) out.push_back(c.step);
  return out;
}

TEST(Checkpoint, NewestFirstAndOnlyComplete) {
  const std::string folder = fresh_folder();
  EXPECT_TRUE(find_checkpoints(folder + "/absent").complete.empty());
  for (const int64_t step : {9, 10, 100}) save(folder, step);
  write_file(begin_checkpoint(folder, 200) + "/adapter_model.safetensors", "cut off");  // never finished
  fs::create_directories(folder + "/checkpoint-7");                                     // another program's
  fs::create_directories(folder + "/checkpoint-x");
  fs::create_directories(folder + "/checkpoint-007");
  const CheckpointList list = find_checkpoints(folder);
  EXPECT_EQ(steps(list), (std::vector<int64_t>{100, 10, 9}));
  ASSERT_EQ(list.damaged.size(), 1u);
  EXPECT_NE(list.damaged[0].reason.find(kCheckpointMarker), std::string::npos);
  EXPECT_EQ(list.complete[0].path, folder + "/checkpoint-100");
}

TEST(Checkpoint, DamageIsNamed) {
  const std::string folder = fresh_folder();
  const std::string path = save(folder, 1);
  EXPECT_FALSE(checkpoint_damage(path));
  std::ofstream(path + "/adapter_model.safetensors") << "Weights";  // same size, one bit
  EXPECT_EQ(checkpoint_damage(path).value_or(""), "adapter_model.safetensors has changed since it was written");
  std::ofstream(path + "/adapter_model.safetensors") << "weight";
  EXPECT_EQ(checkpoint_damage(path).value_or(""), "adapter_model.safetensors has 6 bytes, 7 were written");
  fs::remove(path + "/adapter_model.safetensors");
  EXPECT_EQ(checkpoint_damage(path).value_or(""), "adapter_model.safetensors is missing");
  for (const char* marker : {"", "[]", "{\"files\": {\"../../etc/passwd\": {\"bytes\": 1, \"crc32\": 1}}}", "{\"files\": {\"a\": 3}}",
                             "{\"files\": {\"a\": {\"bytes\": -1, \"crc32\": 1}}}"}) {
    write_file(path + "/" + kCheckpointMarker, marker);
    EXPECT_TRUE(checkpoint_damage(path)) << marker;
  }
  save(folder, 1, "again");  // replaces what is damaged
  EXPECT_FALSE(checkpoint_damage(path));
  EXPECT_EQ(read_file(path + "/adapter_model.safetensors"), "again");
}

TEST(Checkpoint, ChecksumIsCrc32) {
  const std::string folder = fresh_folder();
  const std::string path = save(folder, 1, "123456789");
  EXPECT_NE(read_file(path + "/" + kCheckpointMarker).find(std::to_string(0xcbf43926u)), std::string::npos);  // the published check value
}

TEST(Checkpoint, OldOnesGoTheBestStays) {
  const std::string folder = fresh_folder();
  for (const int64_t step : {1, 2, 3, 4, 5}) save(folder, step);
  fs::create_directories(folder + "/checkpoint-6");  // another program's
  write_file(begin_checkpoint(folder, 9) + "/x", "left over");
  remove_old_checkpoints(folder, std::nullopt, "");
  EXPECT_EQ(steps(find_checkpoints(folder)).size(), 5u);
  EXPECT_FALSE(fs::exists(folder + "/.checkpoint-9.partial"));
  remove_old_checkpoints(folder, 3, folder + "/checkpoint-2");
  EXPECT_EQ(steps(find_checkpoints(folder)), (std::vector<int64_t>{5, 4, 2}));
  remove_old_checkpoints(folder, 1, folder + "/./checkpoint-2");
  EXPECT_EQ(steps(find_checkpoints(folder)), (std::vector<int64_t>{5, 2}));  // the newest and the best
  save(folder, 3);
  remove_old_checkpoints(folder, 2, "", 3);  // step 5 is left from an earlier run
  EXPECT_EQ(steps(find_checkpoints(folder)), (std::vector<int64_t>{3, 2}));
  EXPECT_TRUE(fs::exists(folder + "/checkpoint-6"));
}

TEST(Checkpoint, AtTheEndTheBestAloneStays) {
  const std::string folder = fresh_folder();
  for (const int64_t step : {1, 2, 3}) save(folder, step);
  fs::create_directories(folder + "/checkpoint-6");                            // another program's
  remove_checkpoints_but(folder, testing::TempDir() + "/other/checkpoint-2");  // not here: nothing goes
  EXPECT_EQ(steps(find_checkpoints(folder)).size(), 3u);
  remove_checkpoints_but(folder, folder + "/./checkpoint-2");
  EXPECT_EQ(steps(find_checkpoints(folder)), (std::vector<int64_t>{2}));
  EXPECT_TRUE(fs::exists(folder + "/checkpoint-6"));
}

TEST(Checkpoint, WhatKilledRunsLeftIsSettled) {
  const std::string folder = fresh_folder();
  save(folder, 4);
  fs::rename(folder + "/checkpoint-4", folder + "/.checkpoint-4.replaced");  // what was to come in its place did not
  save(folder, 5, "new");
  fs::copy(folder + "/checkpoint-5", folder + "/.checkpoint-5.replaced");
  fs::create_directories(folder + "/.checkpoint-3.removed/more");
  write_file(begin_checkpoint(folder, 6) + "/x", "half");
  std::ofstream(folder + "/README.md.tmp-12-0") << "half";
  write_file(folder + "/notes.txt", "mine");
  settle_output_dir(folder);
  EXPECT_EQ(steps(find_checkpoints(folder)), (std::vector<int64_t>{5, 4}));
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 3);  // they and the notes
  settle_output_dir(folder + "/absent");
}

TEST(Checkpoint, OneThatCannotBeFinishedIsDiscarded) {
  const std::string folder = fresh_folder();
  write_file(begin_checkpoint(folder, 6) + "/x", "half");
  discard_checkpoint(folder, 6);
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST(Checkpoint, TrainingStateComesBack) {
  const std::string folder = fresh_folder();
  write_training_state(folder, {7, 1, 3, UINT64_MAX, "abc", 0.1 + 0.2, 2, 12.5, "{\"best\":1}"});
  const TrainingState state = read_training_state(folder);
  EXPECT_EQ(state.step, 7);
  EXPECT_EQ(state.batch_in_epoch, 3);
  EXPECT_EQ(state.seed, UINT64_MAX);
  EXPECT_EQ(state.loss_sum, 0.1 + 0.2);
  EXPECT_EQ(state.scheduler, "{\"best\":1}");
  for (const char* text : {"{}", "[]", "{\"format\": 2}", "{\"format\": 1, \"step\": \"x\"}", ""}) {
    write_file(folder + "/training_state.json", text);
    EXPECT_THROW(read_training_state(folder), Error) << text;
  }
}

TEST(OutputLock, OneProcessPerFolder) {
  const std::string folder = fresh_folder() + "/new";
  {
    const OutputLock lock(folder);
    const pid_t child = ::fork();
    if (child == 0) {
      int code = 1;
      try {
        const OutputLock second(folder);
      } catch (const Error& error) {
        code = error.kind == ErrorKind::usage && std::string(error.what()).find(std::to_string(::getppid())) != std::string::npos ? 42 : 2;
      }
      ::_exit(code);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 42);
  }
  EXPECT_NO_THROW(OutputLock{folder});
  EXPECT_FALSE(check_output_dir(folder, false));  // the lock's file does not count
}

TEST(OutputDir, ARunThatEndedBeforeItsFirstCheckpointBeginsAnew) {
  const std::string folder = fresh_folder();
  std::ofstream(folder + "/trainer_log.jsonl") << "{}";
  fs::create_directories(folder + "/pissa_init");
  EXPECT_THROW(check_output_dir(folder, false), Error);  // another program's
  { const OutputLock lock(folder); }
  EXPECT_FALSE(check_output_dir(folder, false));
  fs::create_directories(folder + "/.loraine-12-0.staged");
  fs::create_directories(folder + "/.checkpoint-2.removed");
  EXPECT_FALSE(check_output_dir(folder, false));
  write_file(folder + "/adapter_model.safetensors", "of a run that has finished");
  EXPECT_THROW(check_output_dir(folder, false), Error);
}

TEST(OutputDir, EmptyOrResumableOrOverwritten) {
  const std::string folder = fresh_folder();
  EXPECT_FALSE(check_output_dir(folder + "/absent", false));
  EXPECT_FALSE(check_output_dir(folder, false));
  std::ofstream(folder + "/.loraine.probe.tmp-123-0") << "of a run that was killed";
  EXPECT_FALSE(check_output_dir(folder, false));
  write_file(folder + "/notes.txt", "mine");
  EXPECT_THROW(check_output_dir(folder, false), Error);
  EXPECT_THROW(check_output_dir(folder + "/notes.txt", false), Error);
  EXPECT_FALSE(check_output_dir(folder, true));
  save(folder, 3);
  save(folder, 5);
  EXPECT_EQ(check_output_dir(folder, false)->step, 5);
  fs::remove(folder + "/checkpoint-5/adapter_model.safetensors");
  EXPECT_EQ(check_output_dir(folder, false)->step, 3);
  fs::remove(folder + "/checkpoint-3/" + kCheckpointMarker);
  try {
    check_output_dir(folder, false);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::usage);
    EXPECT_NE(std::string(error.what()).find("checkpoint-5: adapter_model.safetensors is missing"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace loraine::checkpoint_test
