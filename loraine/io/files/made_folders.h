// Which folders of a path were not there before, so that what fails takes them away again. Used by staged files and by a run's folder.
#pragma once
#include <string>
#include <vector>

namespace loraine {

class MadeFolders {
 public:
  explicit MadeFolders(const std::string& path);  // before it is made
  bool last_one() const { return last_; }         // `path` itself was not there
  void remove_empty() const;                      // those that hold nothing, the innermost first

 private:
  std::vector<std::string> made_;  // the innermost first
  bool last_ = false;
};

}  // namespace loraine
