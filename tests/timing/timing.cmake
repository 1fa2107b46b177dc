# Whether a refused login tells what was wrong with it, by bytes and by time (label protocol). See run in this folder.
if(TARGET pgsluice)
  add_test(NAME timing COMMAND /usr/bin/python3 -B ${CMAKE_CURRENT_LIST_DIR}/run)
  set_tests_properties(timing PROPERTIES LABELS protocol RUN_SERIAL ON TIMEOUT 600
    ENVIRONMENT "PGSLUICE_BIN=$<TARGET_FILE:pgsluice>;PGSLUICE_SLOW=${PGSLUICE_SLOW}")
endif()
