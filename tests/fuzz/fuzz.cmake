# One program a target. With PGSLUICE_FUZZ (preset fuzz) it is libFuzzer's, run by scripts/fuzz; else it replays
# corpus/<target> as a test of label unit, so that every compiler and sanitizer sees what fuzzing has found.
foreach(target client_bytes server_bytes session startup scram_server scram_client error_fields ini userlist)
  add_executable(fuzz_${target} ${CMAKE_CURRENT_LIST_DIR}/${target}.cpp ${CMAKE_CURRENT_LIST_DIR}/fuzz.cpp)
  target_include_directories(fuzz_${target} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(fuzz_${target} PRIVATE pgsluice_core)
  if(PGSLUICE_FUZZ)
    target_link_options(fuzz_${target} PRIVATE -fsanitize=fuzzer)
    list(APPEND fuzz_targets fuzz_${target})
  else()
    target_sources(fuzz_${target} PRIVATE ${CMAKE_CURRENT_LIST_DIR}/replay.cpp)
    add_test(NAME fuzz_${target} COMMAND fuzz_${target} ${CMAKE_CURRENT_LIST_DIR}/corpus/${target})
    set_tests_properties(fuzz_${target} PROPERTIES LABELS unit TIMEOUT 120)
  endif()
endforeach()

# Writes the inputs that the corpus began with.
add_executable(fuzz_seeds ${CMAKE_CURRENT_LIST_DIR}/seeds.cpp)
target_include_directories(fuzz_seeds PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(fuzz_seeds PRIVATE pgsluice_core)

if(PGSLUICE_FUZZ)
  add_custom_target(fuzz DEPENDS ${fuzz_targets} fuzz_seeds)
endif()
