#include "loraine/cli/reference/reference.h"

#include <gtest/gtest.h>

#include <sstream>

#include "loraine/cli/commands.h"
#include "loraine/core/error.h"

namespace loraine::reference_test {
namespace {

// A line of a man page begins with a point only where it is a request, and no quote does.
TEST(Reference, ManPageHasRequestsOfItsOwnOnly) {
  std::istringstream lines(man_page());
  int sections = 0;
  for (std::string line; std::getline(lines, line);) {
    ASSERT_FALSE(line.starts_with('\'')) << line;
    if (!line.starts_with('.')) continue;
    const std::string request = line.substr(0, line.find(' '));
    EXPECT_TRUE(request == ".TH" || request == ".SH" || request == ".SS" || request == ".TP" || request == ".B" || request == ".I" ||
                request == ".BI" || request == ".IR" || request == ".PP" || request == ".nf" || request == ".fi")
        << line;
    sections += request == ".SH";
  }
  EXPECT_GE(sections, 9);
  EXPECT_NE(man_page().find("\\-\\-learning_rate"), std::string::npos);
}

TEST(Reference, CompletionNamesEveryCommand) {
  for (const char* shell : {"bash", "zsh", "fish"}) {
    const std::string script = completion_script(shell);
    for (const Command& command : commands()) EXPECT_NE(script.find(command.name), std::string::npos) << shell << " " << command.name;
    EXPECT_EQ(script.find('@' + std::string("NAMES@")), std::string::npos);
    EXPECT_EQ(script.find('@' + std::string("COMMANDS@")), std::string::npos);
  }
  EXPECT_THROW(completion_script("tcsh"), Error);
}

}  // namespace
}  // namespace loraine::reference_test
