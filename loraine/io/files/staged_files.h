// Several files of one folder that appear together or not at all: written into a hidden folder inside it, whose renaming makes them
// complete, then moved out. Used by whatever writes more than one file: a run's end, export, convert, eval.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "loraine/io/files/made_folders.h"

namespace loraine {

class StagedFiles {
 public:
  explicit StagedFiles(const std::string& folder);  // made when absent; what killed processes left there is settled first
  ~StagedFiles();                                   // without commit() nothing is left, nor a folder that was made
  StagedFiles(const StagedFiles&) = delete;
  StagedFiles& operator=(const StagedFiles&) = delete;
  const std::string& path() const { return path_; }  // where the files, and folders of files, are written
  void commit();                                     // Error io leaves none of them

 private:
  void discard();
  std::string folder_, path_;
  MadeFolders made_;
  int lock_ = -1;  // of the hidden folder: its writer lives
};

// What killed processes left in a folder: files that were complete are moved out, others are removed. Those of living ones stay.
void settle_staged_files(const std::string& folder);
bool is_staged_name(std::string_view name);  // of such a hidden folder

}  // namespace loraine
