#include "deltatune/io/staged_folder.hpp"

#include <catch2/catch.hpp>
#include <set>
#include <string>

#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using test::content_of;
using test::error_text;
using test::TemporaryFolder;
using Names = std::set<std::string>;

Names names_in(const std::filesystem::path& folder) {
  Names names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder))
    if (!entry.is_directory()) names.insert(entry.path().lexically_relative(folder).string());
  return names;
}

void write(const std::filesystem::path& folder, const Names& names, const std::string& content, Replaces replaces = Replaces::same_kind) {
  StagedFolder staged(folder, replaces);
  for (const std::string& name : names) {
    make_directory((staged.path() / name).parent_path());
    write_text_file(staged.path() / name, name == "adapters.json" ? R"({"adapters": ["1_lora", "../outside", 3]})" : content);
  }
  staged.commit();
}

TEST_CASE("StagedFolder: a new folder, with those above it", "[staged_folder]") {
  const TemporaryFolder temporary;
  write(temporary / "a/b/out/", {"adapter_config.json", "adapter_model.safetensors"}, "1");
  CHECK(names_in(temporary.path()) == Names{"a/b/out/adapter_config.json", "a/b/out/adapter_model.safetensors"});
}

TEST_CASE("StagedFolder: a new folder named by its name alone", "[staged_folder]") {
  const TemporaryFolder temporary;
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(temporary.path());
  for (const char* name : {"name", "slash/", "./dot"}) write(name, {"adapter_config.json"}, "1");
  std::filesystem::current_path(before);
  CHECK(names_in(temporary.path()) == Names{"name/adapter_config.json", "slash/adapter_config.json", "dot/adapter_config.json"});
}

TEST_CASE("StagedFolder: files of an earlier result that are named go with it", "[staged_folder]") {
  const TemporaryFolder temporary;
  const std::filesystem::path out = temporary / "out";
  write(out, {"adapter_config.json", "loss.svg", "checkpoint/state", "notes"}, "1");
  StagedFolder staged(out);
  write_text_file(staged.path() / "adapter_config.json", "2");
  for (const char* name : {"loss.svg", "checkpoint/state", "nothing"}) staged.removes(name);
  staged.commit();
  CHECK(names_in(out) == Names{"adapter_config.json", "notes"});
  CHECK_FALSE(std::filesystem::exists(out / "checkpoint"));
}

TEST_CASE("StagedFolder: without a commit nothing remains", "[staged_folder]") {
  const TemporaryFolder temporary;
  {
    StagedFolder staged(temporary / "out"), within(temporary.path());
    write_text_file(staged.path() / "adapter_config.json", "");
  }
  CHECK(temporary.names().empty());
}

TEST_CASE("StagedFolder: what lies beside a result stays as it is", "[staged_folder]") {
  const TemporaryFolder temporary;
  const std::filesystem::path out = temporary / "out";
  make_directory(out / "deep/er");
  std::filesystem::create_directory(out / "empty");
  for (const char* name : {"out/metrics.jsonl", "out/deep/er/notes", "out/README.md"}) temporary.file(name, "own");
  std::filesystem::create_symlink("metrics.jsonl", out / "link");
  std::filesystem::permissions(out, std::filesystem::perms{0750});
  write(out, {"adapter_config.json", "adapter_model.safetensors"}, "1");
  write(out, {"adapter_config.json", "adapter_model.safetensors"}, "2");
  CHECK(content_of(out / "adapter_config.json") == "2");
  CHECK(names_in(out) == Names{"adapter_config.json", "adapter_model.safetensors", "README.md", "deep/er/notes", "link", "metrics.jsonl"});
  CHECK(std::filesystem::read_symlink(out / "link") == "metrics.jsonl");
  CHECK(std::filesystem::is_directory(out / "empty"));
  CHECK(std::filesystem::status(out).permissions() == std::filesystem::perms{0750});
  CHECK(temporary.names() == Names{"out"});

  // A file that is open for appending is the same file afterwards.
  std::ofstream log(out / "metrics.jsonl", std::ios::app);
  write(out, {"adapter_config.json", "adapter_model.safetensors"}, "3");
  log << "more" << std::flush;
  CHECK(content_of(out / "metrics.jsonl") == "ownmore");
}

TEST_CASE("StagedFolder: earlier results of the same kind, or of a whole run", "[staged_folder]") {
  const TemporaryFolder temporary;
  const std::filesystem::path out = temporary / "out";
  make_directory(temporary / "outside");
  temporary.file("outside/adapter_config.json", "not ours");
  const auto fill = [&] {
    std::filesystem::remove_all(out);
    write(out,
          {"adapter_config.json", "adapter.safetensors", "model_head.safetensors", "head_config.json", "adapters.json", "1_lora/adapter_config.json",
           "1_lora/labels.json", "labels.json", "run.json", "config.json", "model.safetensors", "vocab.txt", "README.md"},
          "1");
  };
  fill();
  write(out, {"adapter_config.json", "adapter_model.safetensors"}, "2");
  CHECK(names_in(out) == Names{"adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors", "vocab.txt", "README.md"});
  fill();
  write(out, {"config.json", "model.safetensors"}, "2");
  CHECK(names_in(out).contains("adapter_config.json"));
  CHECK_FALSE(names_in(out).contains("vocab.txt"));
  fill();
  write(out, {"adapter_config.json", "adapter_model.safetensors"}, "2", Replaces::any_kind);
  CHECK(names_in(out) == Names{"adapter_config.json", "adapter_model.safetensors", "README.md"});
  CHECK_FALSE(std::filesystem::exists(out / "1_lora"));
  CHECK(content_of(temporary / "outside/adapter_config.json") == "not ours");

  // A config.json without weights is nobody's model.
  std::filesystem::remove_all(out);
  make_directory(out);
  temporary.file("out/config.json", "of an application");
  CHECK(result_in(out).empty());
  write(out, {"adapter_config.json"}, "2", Replaces::any_kind);
  CHECK(names_in(out) == Names{"adapter_config.json", "config.json"});
}

TEST_CASE("StagedFolder: in the process's own working folder", "[staged_folder]") {
  const TemporaryFolder temporary;
  const auto before = std::filesystem::current_path();
  make_directory(temporary / "out/inner");
  write(temporary / "out", {"adapter_config.json", "adapter.safetensors"}, "1");
  for (const char* here : {"out", "out/inner"}) {
    std::filesystem::current_path(temporary / here);
    write(temporary / "out", {"adapter_config.json", "adapter_model.safetensors"}, here);
    CHECK(std::filesystem::exists(std::filesystem::current_path()));
    CHECK(content_of(temporary / "out/adapter_model.safetensors") == here);
    CHECK(names_in(temporary / "out") == Names{"adapter_config.json", "adapter_model.safetensors"});
  }
  std::filesystem::current_path(temporary / "out");
  write(".", {"adapter_config.json", "adapter_model.safetensors"}, "dot");
  CHECK(content_of("adapter_config.json") == "dot");
  std::filesystem::current_path(before);
  CHECK(temporary.names() == Names{"out"});
}

TEST_CASE("StagedFolder: through a symbolic link", "[staged_folder]") {
  const TemporaryFolder temporary;
  make_directory(temporary / "real");
  std::filesystem::create_directory_symlink("real", temporary / "link");
  write(temporary / "link", {"adapter_config.json", "adapter_model.safetensors"}, "1");
  write(temporary / "link", {"adapter_config.json", "adapter_model.safetensors"}, "2");
  CHECK(std::filesystem::is_symlink(temporary / "link"));
  CHECK(content_of(temporary / "real/adapter_config.json") == "2");
}

TEST_CASE("StagedFolder: targets that cannot be written", "[staged_folder]") {
  const TemporaryFolder temporary;
  temporary.file("plain", "");
  CHECK_THAT(error_text([&] { StagedFolder(temporary / "plain"); }), Contains("plain: is not a folder"));
  CHECK_THAT(error_text([&] { StagedFolder(temporary / "plain/sub"); }), Contains("plain"));
  CHECK_THAT(error_text([&] { StagedFolder(""); }), Contains("names no folder"));
  const FolderLock lock(temporary.path());
  StagedFolder staged(temporary.path());
  write_text_file(staged.path() / "adapter_config.json", "1");
  CHECK_THAT(error_text([&] { staged.commit(); }), Contains("in use by another process"));
}

TEST_CASE("StagedFolder: what killed processes left", "[staged_folder]") {
  const TemporaryFolder temporary;
  for (const char* name : {"out", ".out.12.tmp/x", ".out.13.tmp", "out/.result.3.tmp/y", ".other.1.tmp"}) make_directory(temporary / name);
  const FolderLock alive(temporary / ".out.13.tmp");
  { const StagedFolder looks(temporary / "out"); }
  CHECK(temporary.names() == Names{"out", ".out.13.tmp", ".other.1.tmp"});
  CHECK(std::filesystem::is_empty(temporary / "out"));
}

TEST_CASE("FolderLock: one at a time, and along with the folder", "[staged_folder]") {
  const TemporaryFolder temporary;
  write(temporary / "out", {"adapter_config.json", "adapter.safetensors"}, "1");
  FolderLock lock(temporary / "out");
  CHECK_THAT(error_text([&] { FolderLock(temporary / "out"); }), Contains("in use by another process"));
  StagedFolder staged(temporary / "out", Replaces::same_kind, &lock);
  write_text_file(staged.path() / "adapter_config.json", "2");
  staged.commit();
  CHECK_THAT(error_text([&] { FolderLock(temporary / "out"); }), Contains("in use by another process"));
  { const FolderLock given_up(std::move(lock)); }
  CHECK_NOTHROW(FolderLock(temporary / "out"));
  CHECK_THAT(error_text([&] { FolderLock(temporary / "none"); }), Contains("cannot open the folder"));
}

}  // namespace
}  // namespace deltatune
