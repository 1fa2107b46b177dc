# One program a target. With PGSLUICE_FUZZ (preset fuzz) it is libFuzzer's, run by scripts/fuzz; else it replays
# corpus/<target> as a test of label fuzz, so that what fuzzing has found is seen with each run of the tests.
set(targets client_bytes alike server_bytes session startup scram_server scram_client error_fields ini userlist
    hba ident)

add_library(fuzz_support OBJECT ${CMAKE_CURRENT_LIST_DIR}/fuzz.cpp)
if(NOT PGSLUICE_FUZZ)
  target_sources(fuzz_support PRIVATE ${CMAKE_CURRENT_LIST_DIR}/replay.cpp)
endif()
target_include_directories(fuzz_support PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(fuzz_support PUBLIC pgsluice_core)

foreach(target ${targets})
  add_executable(fuzz_${target} ${CMAKE_CURRENT_LIST_DIR}/${target}.cpp)
  target_link_libraries(fuzz_${target} PRIVATE fuzz_support)
  if(PGSLUICE_FUZZ)
    target_link_options(fuzz_${target} PRIVATE -fsanitize=fuzzer)
  else()
    add_test(NAME fuzz_${target} COMMAND fuzz_${target} ${CMAKE_CURRENT_LIST_DIR}/corpus/${target})
    set_tests_properties(fuzz_${target} PROPERTIES LABELS fuzz TIMEOUT 300)
  endif()
endforeach()

list(TRANSFORM targets PREPEND fuzz_ OUTPUT_VARIABLE fuzz_programs)
if(PGSLUICE_FUZZ)
  # Writes the inputs that the corpus began with.
  add_executable(fuzz_seeds ${CMAKE_CURRENT_LIST_DIR}/seeds.cpp)
  target_link_libraries(fuzz_seeds PRIVATE fuzz_support)
  add_custom_target(fuzz DEPENDS ${fuzz_programs} fuzz_seeds)
endif()
